"""Which levels an inversion climbs, what it refuses, and method random, which is SDEdit."""

from __future__ import annotations

import math

import comfy.latent_formats
import comfy.sample
import comfy.samplers
import pytest
import tiny_models
import torch
from comfy.model_base import ModelType
from comfy.nested_tensor import NestedTensor
from edit_runs import TYPES, decode, edit, invert, mixer_model, psnr
from semantic_steering.nodes.inversion import DDIMInvert

from nodes import KSampler

TEXT, OTHER = tiny_models.stub_cond(1), tiny_models.stub_cond(2)
PICTURES = tiny_models.noise(2, *tiny_models.SIZE, seed=5)
BLACK, WHITE = torch.zeros(1, 48, 48), torch.ones(1, 48, 48)


@pytest.fixture(scope="module")
def model():
    return mixer_model()


def test_given_levels_replace_steps_scheduler_and_denoise(model):
    sigmas = tiny_models.schedule(model, 12, "karras")[5:]
    found = invert(model, TEXT, PICTURES, sigmas=sigmas, steps=3, scheduler="beta", denoise=0.01)
    assert torch.equal(found.sigmas, sigmas)
    assert torch.equal(found.inversion.sigmas, sigmas.flip(0)) and len(found.inversion.latents) == len(sigmas)
    assert psnr(decode(model, TEXT, found, PICTURES), PICTURES) > 45


LEVELS = {
    "rising": ([0.0, 0.5, 1.0], "do not flip"),
    "repeated": ([1.0, 0.5, 0.5, 0.0], "repeated or rising"),
    "rising once": ([1.0, 0.3, 0.5, 0.0], "repeated or rising"),
    "not ending at 0": ([1.0, 0.5, 0.1], "must end at 0"),
    "below 0": ([1.0, 0.5, -0.5], "must end at 0"),
    "NaN": ([1.0, math.nan, 0.0], "NaN or infinite"),
    "infinite": ([math.inf, 1.0, 0.0], "NaN or infinite"),
    "one level": ([0.0], "is no step"),
    "none": ([], "is no step"),
    "another model's": ([140.6, 14.0, 1.0, 0.0], "starts at 140.6, this model's largest level is 14.6"),
}


@pytest.mark.parametrize("name", LEVELS)
def test_levels_that_are_no_schedule_are_refused(name, model):
    values, message = LEVELS[name]
    calls = tiny_models.recorded(model)
    with pytest.raises(ValueError, match=f"sigmas .*{message}"):
        invert(calls.model, TEXT, PICTURES, sigmas=torch.tensor(values))
    assert not calls.seen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"denoise": 0.0}, "denoise is 0.0"),
        ({"denoise": 1.01}, "denoise is 1.01"),
        ({"denoise": math.nan}, "denoise is nan"),
        ({"denoise": 0.03}, "leaves no step"),
        ({"steps": 0}, "steps is 0"),
        ({"scheduler": "made up"}, "scheduler is 'made up'"),
        ({"method": "made up"}, "method is 'made up'"),
        ({"iterations": 0}, "iterations is 0"),
        ({"cfg": math.nan}, "cfg is nan"),
        ({"cfg": -1.0}, "cfg is -1"),
        ({"cfg": math.inf, "negative": OTHER}, "cfg is inf"),
        ({"cfg": 2.0}, "negative is not connected"),
    ],
)
def test_a_bad_setting_is_refused_before_the_model_is_asked(options, message, model):
    calls = tiny_models.recorded(model)
    with pytest.raises(ValueError, match=message):
        invert(calls.model, TEXT, PICTURES, **options)
    assert not calls.seen


@pytest.mark.parametrize(
    ("steps", "denoise", "kept"), [(25, 0.8, 20), (10, 0.3, 3), (30, 0.1, 3), (7, 0.5, 3), (1, 1.0, 1)]
)
def test_denoise_keeps_the_whole_steps_of_its_share(steps, denoise, kept, model):
    found = invert(model, TEXT, PICTURES, steps=steps, denoise=denoise, method="random")
    assert torch.equal(found.sigmas, tiny_models.schedule(model, steps)[-(kept + 1) :])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.full((1, *tiny_models.SIZE), math.nan), "NaN or infinite"),
        (tiny_models.noise(1, 16, 6, 6), "16 channels, this model's latents have 4"),
        (tiny_models.noise(1, 4, 2, 6, 6), "latents have 4 dimensions"),
        (
            NestedTensor([tiny_models.noise(1, *tiny_models.SIZE), tiny_models.noise(1, *tiny_models.SIZE)]),
            "packed latent",
        ),
    ],
    ids=["NaN", "channels", "rank", "packed"],
)
def test_a_latent_that_cannot_be_inverted_is_refused(samples, message, model):
    calls = tiny_models.recorded(model)
    with pytest.raises(ValueError, match=message):
        invert(calls.model, TEXT, samples)
    assert not calls.seen


def test_a_model_that_packs_an_empty_latent_is_refused(model, monkeypatch):
    """ComfyUI gives an empty latent the parts that such a model (video with sound) expects."""
    calls = tiny_models.recorded(model)
    monkeypatch.setattr(comfy.sample, "fix_empty_latent_channels", lambda _, samples: NestedTensor([samples, samples]))
    with pytest.raises(ValueError, match="model takes packed latents"):
        invert(calls.model, TEXT, torch.zeros(1, *tiny_models.SIZE))
    assert not calls.seen


@pytest.mark.parametrize("steps", [3, 9, 30, 48, 100])
def test_the_denoise_that_the_error_names_is_enough(steps, model):
    with pytest.raises(ValueError, match="leaves no step") as refused:
        invert(model, TEXT, PICTURES, steps=steps, denoise=0.001)
    advised = float(str(refused.value).split("raise denoise to ")[1].split()[0])
    assert len(invert(model, TEXT, PICTURES, steps=steps, denoise=advised, method="random").sigmas) == 2


def test_a_schedule_that_is_none_names_the_scheduler(model):
    """ComfyUI's kl_optimal divides by steps − 1."""
    with pytest.raises(ValueError, match=r"kl_optimal schedule of 1 steps.*Choose another scheduler"):
        invert(model, TEXT, PICTURES, steps=1, scheduler="kl_optimal", denoise=1.0)


def test_the_inverted_latent_carries_no_noise_mask(model):
    latent = {"samples": PICTURES, "noise_mask": torch.ones(1, 48, 48), "batch_index": [3, 4]}
    inverted = DDIMInvert.execute(model, TEXT, latent, method="random").args[3]
    assert "noise_mask" not in inverted and inverted["batch_index"] == [3, 4] and "noise_mask" in latent


def test_the_noise_follows_a_patched_latent_format(model):
    """As ModelSamplingContinuousEDM patches it for Playground: the patch is not on the model between runs."""
    patched = model.clone()
    patched.add_object_patch("latent_format", comfy.latent_formats.SDXL())
    found = invert(patched, TEXT, PICTURES)
    decode(model, TEXT, invert(model, TEXT, PICTURES), PICTURES)  # another clone was loaded since
    assert psnr(decode(patched, TEXT, found, PICTURES), PICTURES) > 45


WIDE = [[torch.zeros(1, 1, 7), {}]]


@pytest.mark.parametrize(
    ("positive", "negative", "message"),
    [
        ([], None, "positive is empty"),
        (TEXT, [], "negative is empty"),
        (TEXT, WIDE, f"negative has 7 text features, positive has {tiny_models.WIDTH}"),
    ],
    ids=["no positive", "no negative", "widths"],
)
def test_conditionings_that_cannot_be_used_are_refused_by_inversion_and_decode(positive, negative, message, model):
    found = invert(model, TEXT, PICTURES, steps=4)
    calls = tiny_models.recorded(model)
    with pytest.raises(ValueError, match=message):
        invert(calls.model, positive, PICTURES, negative=negative)
    with pytest.raises(ValueError, match=message):
        edit(calls.model, positive, TEXT if negative is None else negative, found.inversion, WHITE)
    assert not calls.seen


def test_the_noise_belongs_to_the_latent_that_was_inverted(model):
    found = invert(model, TEXT, PICTURES, method="random")
    for samples in (PICTURES[:1], tiny_models.noise(2, 4, 6, 12)):
        with pytest.raises(ValueError, match="connect the latent that was inverted"):
            found.noise.generate_noise({"samples": samples})


@pytest.mark.parametrize("denoise", [0.5, 1.0])
@pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
def test_random_adds_the_same_noise_at_every_level(model_type, denoise):
    calls = tiny_models.recorded(mixer_model(model_type))
    found = invert(calls.model, TEXT, PICTURES, method="random", seed=11, steps=10, denoise=denoise).inversion
    noise = comfy.sample.prepare_noise(PICTURES, 11)
    assert not calls.seen and found.evaluations == 0
    largest = float(calls.model.get_model_object("model_sampling").sigma_max)
    for state, sigma in zip(found.latents, found.sigmas.tolist(), strict=True):
        b = math.sqrt(1 + sigma**2) if sigma >= largest * (1 - 1e-5) and model_type is not ModelType.FLOW else sigma
        a = 1 - sigma if model_type is ModelType.FLOW else 1
        torch.testing.assert_close(state, a * PICTURES + b * noise, rtol=1e-5, atol=1e-5)
    other = invert(calls.model, TEXT, PICTURES, method="random", seed=12, steps=10).inversion
    assert not torch.allclose(other.latents[-1], found.latents[-1], atol=0.1)


def test_a_level_a_little_above_the_models_table_is_pure_noise_too(model):
    """Such schedules are accepted; the host's samplers start from √(1 + σ²)·noise there, as at the table's end."""
    top = 1.005 * float(model.get_model_object("model_sampling").sigma_max)
    found = invert(model, TEXT, PICTURES, method="random", seed=11, sigmas=torch.tensor([top, 0.8 * top, 0.0]))
    noise = comfy.sample.prepare_noise(PICTURES, 11)
    _, below, state = found.inversion.latents
    torch.testing.assert_close(below, PICTURES + 0.8 * top * noise, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, PICTURES + math.sqrt(1 + top**2) * noise, rtol=1e-5, atol=1e-5)
    assert tiny_models.relative(PICTURES + top * noise, state) > 1e-3  # else the two could not be told apart
    torch.testing.assert_close(found.noise.generate_noise({"samples": PICTURES}), noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("denoise", [0.8, 1.0])
@pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
def test_random_is_the_stock_samplers_image_to_image(model_type, denoise):
    """KSampler's 20 steps at denoise 0.8 are the last 20 of 25."""
    model = mixer_model(model_type)
    found = invert(model, TEXT, PICTURES, method="random", seed=11, denoise=denoise)
    ours = decode(model, TEXT, found, PICTURES, OTHER, 4.0)
    kept = len(found.sigmas) - 1
    latent = {"samples": PICTURES}
    (theirs,) = KSampler().sample(model, 11, kept, 4.0, "euler", "normal", TEXT, OTHER, latent, denoise)
    assert tiny_models.relative(ours, theirs["samples"]) < 1e-5
    assert tiny_models.relative(ours, PICTURES) > 0.1


def test_diffedit_without_encoding_is_the_decode_of_a_random_inversion(model):
    """A full mask makes it SDEdit; half a mask keeps the other half."""
    found = invert(model, TEXT, PICTURES, method="random", seed=11)
    whole = edit(model, OTHER, TEXT, found.inversion, WHITE, 4.0)
    assert tiny_models.relative(whole, decode(model, OTHER, found, PICTURES, TEXT, 4.0)) < 1e-5
    mask = BLACK.clone()
    mask[:, :24] = 1.0
    half = edit(model, OTHER, TEXT, found.inversion, mask, 4.0)
    assert torch.equal(half[..., 3:, :], PICTURES[..., 3:, :])
    assert tiny_models.relative(half[..., :3, :], PICTURES[..., :3, :]) > 0.1


def test_a_model_that_carries_sega_is_refused(model):
    steered = tiny_models.steer(model, tiny_models.concept(OTHER, 2.0))
    with pytest.raises(ValueError, match="Connect the model from before SEGA Guidance"):
        invert(steered, TEXT, PICTURES)


def test_what_is_stored_stays_what_it_was(model):
    """The untouched samples, one state a level, and later runs write to none of them."""
    samples = PICTURES.clone()
    found = invert(model, TEXT, samples)
    before = [state.clone() for state in found.inversion.latents]
    decode(model, TEXT, found, samples)
    edit(model, OTHER, TEXT, found.inversion, WHITE)
    invert(model, OTHER, samples)
    assert torch.equal(samples, PICTURES) and torch.equal(found.inversion.samples, PICTURES)
    assert all(torch.equal(a, b) for a, b in zip(before, found.inversion.latents, strict=True))
    assert len({state.data_ptr() for state in found.inversion.latents}) == len(found.inversion.latents)


def test_a_latents_other_entries_stay_on_the_inverted_latent(model):
    latent = {"samples": PICTURES, "batch_index": [3, 7]}
    *_, inverted, _ = DDIMInvert.execute(model, TEXT, latent, method="random", seed=5, denoise=0.4).args
    assert inverted["batch_index"] == [3, 7]
    noise = comfy.sample.prepare_noise(PICTURES, 5, [3, 7])
    sigma = float(tiny_models.schedule(model, 25)[-11])
    torch.testing.assert_close(inverted["samples"], PICTURES + sigma * noise)
