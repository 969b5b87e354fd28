"""The strip of a training: what a user would get from Slider LoRA Loader, for fewer evaluations."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import pytest
import tiny_models
import torch
from comfy.model_base import ModelType
from semantic_steering.guidance_core import Window
from semantic_steering.nodes.host.lora.fitting import fit
from semantic_steering.nodes.host.run.samplers import guider_for
from semantic_steering.nodes.host.sliders.patch import Slider, with_slider
from semantic_steering.nodes.host.training.seen import STEPS, Dial, Seen
from semantic_steering.nodes.host.training.session import clock, still_since
from training_runs import NEGATIVE, TARGET, training

STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)
CFG, SEED = 3.0, 11
EMPTY = torch.zeros(1, 4, 8, 8)


def dial(model: Any, begin: int = 2, strengths: tuple[float, ...] = STRENGTHS) -> Dial:
    def carrying(tensors: dict, strengths: tuple[float, ...]) -> Any:
        return {"model": with_slider(model, Slider(fit(model, None, tensors, "slider"), strengths, Window()))}

    return Dial(strengths, begin, carrying)


def trained(model: Any) -> dict[str, torch.Tensor]:
    run = training(model, rate=0.05)
    run.run(3)
    return run.factors.tensors()


def seen(model: Any, begin: int = 2, vae: Any = None) -> Seen:
    return Seen(model, TARGET, NEGATIVE, CFG, EMPTY, SEED, vae, dial(model, begin))


def by_the_loader(model: Any, tensors: dict, strength: float, start_percent: float, sigmas: torch.Tensor) -> Any:
    """One whole run of the host's Euler sampler, with the slider from start_percent on."""
    slider = Slider(fit(model, None, tensors, "slider"), (strength,), Window(start_percent, 1.0))
    guider = guider_for(with_slider(model, slider), {"positive": TARGET, "negative": NEGATIVE}, CFG)
    noise = comfy.sample.prepare_noise(EMPTY, SEED)
    return guider.sample(noise, EMPTY, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=SEED)


@pytest.mark.parametrize("kind", [ModelType.EPS, ModelType.V_PREDICTION, ModelType.FLOW])
@pytest.mark.parametrize("begin", [0, 2])
def test_each_picture_is_that_of_slider_lora_loader(kind, begin):
    model = tiny_models.unet_model(kind)
    tensors = trained(model)
    strip = seen(model, begin)
    found = strip.latents(tensors)
    for strength, latent in zip(STRENGTHS, found, strict=True):
        expected = by_the_loader(model, tensors, strength, begin / STEPS, strip.sigmas)
        assert tiny_models.relative(latent[None], expected) < 1e-4, strength
    assert tiny_models.relative(found[-1:], found[2:3]) > 1e-3


def test_what_strips_cost():
    """The run up to the slider and the picture without it are made once."""
    model = tiny_models.unet_model()
    tensors = trained(model)
    calls = tiny_models.recorded(model)
    strip = seen(calls.model)
    strip.latents(tensors)
    assert calls.batches == [2] * STEPS + [8] * (STEPS - 2)
    before = len(calls.batches)
    strip.latents(tensors)
    assert calls.batches[before:] == [8] * (STEPS - 2)


def test_the_response_is_the_distance_of_the_outermost_pictures():
    strip = seen(tiny_models.unet_model())
    latents = torch.ones(5, 4, 8, 8)
    assert strip.response(latents) == 0
    latents[0] *= 1.5
    latents[4] *= 0.5
    latents[1] *= 7
    assert strip.response(latents) == pytest.approx(0.5)


def test_without_a_vae_it_is_in_the_formats_colours_and_with_one_its_own():
    model = tiny_models.unet_model()
    latents = torch.randn(5, 4, 8, 8)
    plain = seen(model).strip(latents)
    assert plain.shape[0] == 1 and plain.shape[-1] == 3 and plain.shape[2] > 5 * 8

    class Vae:
        def decode(self, samples: torch.Tensor) -> torch.Tensor:
            return torch.full((len(samples), 64, 64, 3), 0.25)

    sheet = seen(model, vae=Vae()).strip(latents)
    assert (sheet == 0.25).any() and sheet.shape[2] > 5 * 64


@pytest.mark.parametrize(
    ("responses", "step"),
    [([0.1, 0.2, 0.3], None), ([0.1, 0.3, 0.31, 0.312], 50), ([0.1, 0.1], None), ([0.0, 0.0, 0.0], None),
     ([0.3, 0.31, 0.29, 0.5], None), ([0.5, 0.3, 0.3], 25)],
)  # fmt: skip
def test_since_when_the_strip_changes_no_more(responses, step):
    assert still_since([(25 * (i + 1), response) for i, response in enumerate(responses)]) == step


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (125, "2:05"), (3700, "61:40")])
def test_times_are_minutes_and_seconds(seconds, text):
    assert clock(seconds) == text


def test_a_cfg_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="cfg is nan"):
        Seen(tiny_models.unet_model(), TARGET, NEGATIVE, float("nan"), EMPTY, SEED, None, dial(None))
