"""A setting that asks for nothing gives the bits of not using the node."""

from __future__ import annotations

import pytest
import tiny
import torch
from semantic_steering.nodes.sega import SEGAGuidance, SEGASampler

POSITIVE, NEGATIVE, TARGET = tiny.unet_cond(1), tiny.unet_cond(2), tiny.unet_cond(3)
START = tiny.noise(2, 4, 8, 8, seed=1)
RANGE = {"start_percent": 0.0, "end_percent": 0.2}
BLACK = torch.zeros(1, 64, 64)

NEUTRAL = {
    "scale 0": [tiny.concept(TARGET, 0.0)],
    "empty window": [tiny.concept(TARGET, start=0.4, end=0.4)],
    "mask of zeros": [tiny.concept(TARGET, mask=BLACK)],
    "conditioning of strength 0": [tiny.concept(tiny.unet_cond(3, strength=0.0))],
    "conditioning's range misses the window": [tiny.concept(tiny.unet_cond(3, **RANGE), start=0.5)],
    "conditioning with a mask of zeros": [tiny.concept(tiny.unet_cond(3, mask=BLACK, mask_strength=1.0))],
    "several of scale 0": [tiny.concept(TARGET, 0.0), tiny.concept(TARGET, 0.0)],
    "several": [tiny.concept(TARGET, 0.0), tiny.concept(TARGET, mask=BLACK), tiny.concept(TARGET, start=1.0)],
    "no concepts": [],
}


@pytest.fixture(scope="module")
def model():
    return tiny.unet_model()


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_neutral_concept_changes_no_bit_and_costs_no_forward(name, model):
    calls = tiny.recorded(model)
    steered = tiny.steer(calls.model, *NEUTRAL[name], momentum=0.5)
    edited = tiny.sample_cfg(steered, POSITIVE, NEGATIVE, start=START)
    assert calls.batches == [4] * 5
    assert torch.equal(edited, tiny.sample_cfg(model, POSITIVE, NEGATIVE, start=START))
    acting = tiny.steer(model, tiny.concept(TARGET), momentum=0.5)
    assert not torch.equal(edited, tiny.sample_cfg(acting, POSITIVE, NEGATIVE, start=START))


@pytest.mark.parametrize("name", [name for name in NEUTRAL if name != "no concepts"])
def test_a_neutral_concept_beside_an_acting_one_changes_no_bit(name, model):
    """Neither does it hold up the momentum, which waits for all concepts to be warm."""
    acting = tiny.concept(TARGET, 2.0, 0.5)
    alone = tiny.sample_cfg(tiny.steer(model, acting, momentum=0.5), POSITIVE, NEGATIVE, start=START)
    beside = tiny.steer(model, *NEUTRAL[name], acting, momentum=0.5)
    assert torch.equal(tiny.sample_cfg(beside, POSITIVE, NEGATIVE, start=START), alone)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_window_the_run_never_reaches_changes_no_bit(momentum, model):
    """A run from the middle on, as denoise < 1 makes it, with a concept that acts at the beginning only."""
    sigmas = tiny.schedule(model, 6)[3:]
    steered = tiny.steer(model, tiny.concept(TARGET, end=0.2), momentum=momentum)
    assert torch.equal(
        tiny.sample_cfg(steered, POSITIVE, NEGATIVE, start=START, sigmas=sigmas),
        tiny.sample_cfg(model, POSITIVE, NEGATIVE, start=START, sigmas=sigmas),
    )


def test_steps_before_the_window_are_the_plain_models(model):
    states: dict[str, list] = {"plain": [], "steered": []}
    steered = tiny.steer(model, tiny.concept(TARGET, start=0.5), momentum=0.5)
    for name, one in (("plain", model), ("steered", steered)):

        def note(i, x0, x, total, name=name):
            states[name].append(x.clone())

        tiny.sample_cfg(one, POSITIVE, NEGATIVE, start=START, callback=note)
    differs = [tiny.relative(a, b) > 1e-4 for a, b in zip(states["steered"], states["plain"], strict=True)]
    # the third step, at percent 0.5, is the first to act: it shows in the state after it
    assert differs == [False, False, False, True, True]


@pytest.mark.parametrize("concepts", [None, ()])
def test_sega_guidance_without_concepts_hands_on_the_same_model(concepts, model):
    (patched,) = SEGAGuidance.execute(model, concepts).args
    assert not patched.wrappers
    assert torch.equal(
        tiny.sample_cfg(patched, POSITIVE, NEGATIVE, start=START),
        tiny.sample_cfg(model, POSITIVE, NEGATIVE, start=START),
    )


@pytest.mark.parametrize("name", NEUTRAL)
def test_sega_sampler_with_neutral_concepts_is_the_hosts_ksampler(name, model):
    from nodes import common_ksampler

    latent = {"samples": torch.zeros(2, 4, 8, 8)}
    arguments = (model, 7, 4, 3.0, "dpmpp_2m", "karras", POSITIVE, NEGATIVE, latent)
    (plain,) = common_ksampler(*arguments)
    found, activity, vectors = SEGASampler.execute(*arguments, concepts=tuple(NEUTRAL[name])).args
    assert torch.equal(found["samples"], plain["samples"])
    assert activity.shape == (2 * max(1, len(NEUTRAL[name])), 64, 64)
    assert not activity.any()
    assert vectors.neutral
