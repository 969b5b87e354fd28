"""A setting that asks for nothing gives the bits of not using the node."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from semantic_steering.nodes.sega import SEGAGuidance, SEGASampler

POSITIVE, NEGATIVE, TARGET = tiny_models.unet_cond(1), tiny_models.unet_cond(2), tiny_models.unet_cond(3)
START = tiny_models.noise(2, 4, 8, 8, seed=1)
RANGE = {"start_percent": 0.0, "end_percent": 0.2}
BLACK = torch.zeros(1, 64, 64)

NEUTRAL = {
    "scale 0": [tiny_models.concept(TARGET, 0.0)],
    "empty window": [tiny_models.concept(TARGET, start=0.4, end=0.4)],
    "mask of zeros": [tiny_models.concept(TARGET, mask=BLACK)],
    "conditioning of strength 0": [tiny_models.concept(tiny_models.unet_cond(3, strength=0.0))],
    "conditioning's range misses the window": [tiny_models.concept(tiny_models.unet_cond(3, **RANGE), start=0.5)],
    "conditioning with a mask of zeros": [tiny_models.concept(tiny_models.unet_cond(3, mask=BLACK, mask_strength=1.0))],
    "several of scale 0": [tiny_models.concept(TARGET, 0.0), tiny_models.concept(TARGET, 0.0)],
    "several": [
        tiny_models.concept(TARGET, 0.0),
        tiny_models.concept(TARGET, mask=BLACK),
        tiny_models.concept(TARGET, start=1.0),
    ],
    "no concepts": [],
}


@pytest.fixture(scope="module")
def model():
    return tiny_models.unet_model()


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_neutral_concept_changes_no_bit_and_costs_no_forward(name, model):
    calls = tiny_models.recorded(model)
    steered = tiny_models.steer(calls.model, *NEUTRAL[name], momentum=0.5)
    edited = tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, start=START)
    assert calls.batches == [4] * 5
    assert torch.equal(edited, tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, start=START))
    acting = tiny_models.steer(model, tiny_models.concept(TARGET), momentum=0.5)
    assert not torch.equal(edited, tiny_models.sample_cfg(acting, POSITIVE, NEGATIVE, start=START))


@pytest.mark.parametrize("name", [name for name in NEUTRAL if name != "no concepts"])
def test_a_neutral_concept_beside_an_acting_one_changes_no_bit(name, model):
    """Neither does it hold up the momentum, which waits for all concepts to be warm."""
    acting = tiny_models.concept(TARGET, 2.0, 0.5)
    alone = tiny_models.sample_cfg(tiny_models.steer(model, acting, momentum=0.5), POSITIVE, NEGATIVE, start=START)
    beside = tiny_models.steer(model, *NEUTRAL[name], acting, momentum=0.5)
    assert torch.equal(tiny_models.sample_cfg(beside, POSITIVE, NEGATIVE, start=START), alone)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_window_the_run_never_reaches_changes_no_bit(momentum, model):
    """A run from the middle on, as denoise < 1 makes it, with a concept that acts at the beginning only."""
    sigmas = tiny_models.schedule(model, 6)[3:]
    steered = tiny_models.steer(model, tiny_models.concept(TARGET, end=0.2), momentum=momentum)
    assert torch.equal(
        tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, start=START, sigmas=sigmas),
        tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, start=START, sigmas=sigmas),
    )


def test_steps_before_the_window_are_the_plain_models(model):
    states: dict[str, list] = {"plain": [], "steered": []}
    steered = tiny_models.steer(model, tiny_models.concept(TARGET, start=0.5), momentum=0.5)
    for name, one in (("plain", model), ("steered", steered)):

        def note(i, x0, x, total, name=name):
            states[name].append(x.clone())

        tiny_models.sample_cfg(one, POSITIVE, NEGATIVE, start=START, callback=note)
    differs = [tiny_models.relative(a, b) > 1e-4 for a, b in zip(states["steered"], states["plain"], strict=True)]
    # the third step, at percent 0.5, is the first to act: it shows in the state after it
    assert differs == [False, False, False, True, True]


@pytest.mark.parametrize("concepts", [None, ()])
def test_sega_guidance_without_concepts_hands_on_the_same_model(concepts, model):
    (patched,) = SEGAGuidance.execute(model, concepts).args
    assert not patched.wrappers
    assert torch.equal(
        tiny_models.sample_cfg(patched, POSITIVE, NEGATIVE, start=START),
        tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, start=START),
    )


@pytest.mark.parametrize("name", NEUTRAL)
def test_sega_sampler_with_neutral_concepts_is_the_hosts_ksampler(name, model):
    from nodes import common_ksampler

    latent = {"samples": torch.zeros(2, 4, 8, 8)}
    arguments = (model, 7, 4, 3.0, "dpmpp_2m", "karras", POSITIVE, NEGATIVE, latent)
    (plain,) = common_ksampler(*arguments)
    found, activity, vectors, _ = SEGASampler.execute(*arguments, concepts=tuple(NEUTRAL[name])).args
    assert torch.equal(found["samples"], plain["samples"])
    assert activity.shape == (2 * max(1, len(NEUTRAL[name])), 64, 64)
    assert not activity.any()
    assert vectors.neutral
