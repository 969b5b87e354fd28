"""What all trainings are told: bounds, the latent they begin with, and which pictures and conditionings are taken."""

from __future__ import annotations

import math
from typing import Any

import comfy.latent_formats
import pytest
import tiny_models
import torch
from comfy.model_base import ModelType
from semantic_steering.nodes.host.training import asked_by
from semantic_steering.nodes.host.training.settings import Settings, empty_latent, picture_batch

GOOD: dict[str, Any] = {
    "steps": 10, "rank": 2, "alpha": 1.0, "layers": "no cross-attention", "learning_rate": 0.01, "batch_size": 2,
    "start_percent": 0.0, "end_percent": 0.6, "show_every": 5, "seed": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("steps", 2_000_000), ("rank", 0), ("batch_size", 0), ("show_every", 0), ("learning_rate", 0.0),
     ("learning_rate", -1e-4), ("learning_rate", math.nan), ("learning_rate", math.inf), ("alpha", 0.0),
     ("alpha", math.nan)],
)  # fmt: skip
def test_a_setting_out_of_bounds_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Settings(**{**GOOD, name: value})


def test_how_long_and_how_it_is_shown_do_not_make_another_training():
    """So that one that was stopped goes on with more steps."""
    told = Settings(**GOOD).told(target="person")
    assert told == Settings(**{**GOOD, "steps": 99, "show_every": 1}).told(target="person")
    for name, value in {"rank": 3, "learning_rate": 0.02, "seed": 1, "end_percent": 0.7}.items():
        assert told != Settings(**{**GOOD, name: value}).told(target="person")
    assert told != Settings(**GOOD).told(target="cat")


def with_format(layout: Any) -> Any:
    model = tiny_models.unet_model(ModelType.EPS)
    model.add_object_patch("latent_format", layout)
    return model


@pytest.mark.parametrize(
    ("layout", "shape"),
    [(comfy.latent_formats.SD15(), (1, 4, 64, 64)), (comfy.latent_formats.SDXL(), (1, 4, 128, 128)),
     (comfy.latent_formats.Flux(), (1, 16, 128, 128)), (comfy.latent_formats.Wan21(), (1, 16, 1, 64, 64))],
)  # fmt: skip
def test_without_a_size_it_is_the_models_own(layout, shape):
    assert empty_latent(with_format(layout), 0, 0).shape == shape


def test_a_size_is_taken_each_side_by_itself():
    model = with_format(comfy.latent_formats.SD15())
    assert empty_latent(model, 128, 0).shape == (1, 4, 64, 16)
    with pytest.raises(ValueError, match=r"height is 7; it must be 0 .* or at least 8 pixels"):
        empty_latent(model, 128, 7)
    with pytest.raises(ValueError, match="makes sound"):
        empty_latent(with_format(comfy.latent_formats.StableAudio1()), 0, 0)


def test_pictures_are_taken_into_the_models_own_space():
    model = with_format(comfy.latent_formats.SD15())
    samples = torch.randn(3, 4, 8, 8)
    expected = comfy.latent_formats.SD15().process_in(samples)
    assert torch.equal(picture_batch(model, {"samples": samples}, "before"), expected)


@pytest.mark.parametrize(
    ("samples", "words"),
    [(torch.randn(2, 16, 8, 8), "before has 16 channels, this model's latents have 4.*another model family"),
     (torch.full((2, 4, 8, 8), math.nan), "before holds NaN"), (torch.randn(0, 4, 8, 8), "before holds no pictures"),
     (torch.full((2, 4, 8, 8), -1e30), r"before holds values of up to 1e\+30.*Connect a VAE Encode")],
)  # fmt: skip
def test_pictures_that_are_none_are_refused(samples, words):
    with pytest.raises(ValueError, match=words):
        picture_batch(with_format(comfy.latent_formats.SD15()), {"samples": samples}, "before")


def cond(**options: Any) -> list:
    return tiny_models.unet_cond(3, **options)


@pytest.mark.parametrize(
    "options",
    [{"area": (4, 4, 0, 0)}, {"mask": torch.ones(1, 8, 8)}, {"start_percent": 0.5}, {"end_percent": 0.5},
     {"hooks": object()}, {"control": object()}],
)  # fmt: skip
def test_a_conditioning_of_a_part_is_refused(options):
    (key,) = options
    with pytest.raises(ValueError, match=f"conditioning has '{key}'.*plain CLIP Text Encode"):
        asked_by.checked(tiny_models.unet_model(), cond(**options), "conditioning")


def test_a_whole_one_is_taken_as_it_is():
    whole = cond(start_percent=0.0, end_percent=1.0)
    assert asked_by.checked(tiny_models.unet_model(), whole, "conditioning") is whole


def test_a_conditioning_of_no_numbers_is_refused():
    broken = cond()
    broken[0][0][:] = math.nan
    with pytest.raises(ValueError, match="conditioning holds values that are no numbers"):
        asked_by.checked(tiny_models.unet_model(), broken, "conditioning")


def test_of_nothing_a_unet_is_asked_with_zeros_and_others_are_not():
    model = tiny_models.unet_model()
    ((features, options),) = asked_by.checked(model, None, "conditioning")
    assert features.shape[-1] == model.model.model_config.unet_config["context_dim"]
    assert not features.any()
    assert not options
    with pytest.raises(ValueError, match=r"conditioning is not connected.*connect a CLIP Text Encode"):
        asked_by.checked(tiny_models.stub_model(), None, "conditioning")


def test_the_same_text_for_subject_and_class_is_refused():
    with pytest.raises(ValueError, match="are the same to this model"):
        asked_by.check_different(cond(), cond())
    asked_by.check_different(cond(), tiny_models.unet_cond(4))
