"""Where the pack departs from the authors' implementation on purpose, shown beside it."""

from __future__ import annotations

import authors_unet
import pytest
import tiny_models
import torch

from benchmarks import peers

POSITIVE, NEGATIVE = tiny_models.unet_cond(1), tiny_models.unet_cond(2)
FIRST, SECOND = tiny_models.unet_cond(11), tiny_models.unet_cond(12)
STEPS, CFG = 8, 3.0
LATENTS = tiny_models.noise(1, 4, 8, 8, seed=4)


@pytest.fixture(scope="module")
def model():
    return tiny_models.unet_model()


@pytest.fixture(scope="module")
def reference(model):
    return peers.SEGA(authors_unet.reference_unet(model), POSITIVE, NEGATIVE)


def entry(conditioning, scale, warm_up, cool_down=STEPS):
    start, end = peers.percent_before_step(warm_up, STEPS), peers.percent_before_step(cool_down, STEPS)
    return tiny_models.concept(conditioning, scale, 0.5, start, end)


def ours(model, *entries, momentum=0.0, beta=0.4):
    sigmas = tiny_models.schedule(model, STEPS, "ddim_uniform")
    start = peers.start_noise(LATENTS, float(sigmas[0]))
    return tiny_models.sample_cfg(
        tiny_models.steer(model, *entries, momentum=momentum, beta=beta), POSITIVE, NEGATIVE, CFG, start, sigmas
    )


def theirs(reference, concepts, scales, warm_ups, cool_downs=None, momentum=0.0, beta=0.4):
    return reference(
        LATENTS, STEPS, CFG, concepts, edit_guidance_scale=scales, edit_threshold=0.5, edit_warmup_steps=warm_ups,
        edit_cooldown_steps=cool_downs or [peers.NEVER] * len(concepts), edit_momentum_scale=momentum,
        edit_mom_beta=beta, reverse_editing_direction=False,
    )  # fmt: skip


def test_while_some_concepts_are_warm_the_terms_are_summed_not_averaged(model, reference):
    """Of three concepts two are warm until the end: the reference adds their mean, the paper and the pack their sum."""
    third = tiny_models.unet_cond(13)
    concepts, warm_ups = [FIRST, SECOND, third], [0, 0, STEPS]
    summed = ours(model, entry(FIRST, 1.0, 0), entry(SECOND, 1.5, 0), entry(third, 1.0, STEPS))
    assert tiny_models.relative(summed, theirs(reference, concepts, [1.0, 1.5, 1.0], warm_ups)) > 0.01
    # half the scale makes our sum the reference's mean of two, so nothing else differs
    mean = ours(model, entry(FIRST, 0.5, 0), entry(SECOND, 0.75, 0))
    assert tiny_models.relative(mean, theirs(reference, concepts, [1.0, 1.5, 1.0], warm_ups)) < 1e-4


def test_a_cooled_concept_before_a_cold_one_does_not_give_nan(model, reference):
    """The reference divides by the weights of the warm ones, which are all 0 once these have cooled."""
    broken = theirs(reference, [FIRST, SECOND], [1.0, 3.0], [0, 5], [2, 10_000])
    assert broken.isnan().all()
    whole = ours(model, entry(FIRST, 1.0, 0, 2), entry(SECOND, 3.0, 5))
    assert whole.isfinite().all()
    assert tiny_models.relative(whole, ours(model, entry(SECOND, 3.0, 5))) > 0.01  # the first one did act
    assert tiny_models.relative(whole, ours(model, entry(FIRST, 1.0, 0, 2))) > 0.01


def test_momentum_stops_when_its_concept_ends(model, reference):
    """The reference's shared momentum goes on decaying after the cool-down; here it ends with its concept."""
    steered = tiny_models.steer(model, entry(FIRST, 1.0, 0, 4), momentum=0.5, beta=0.8)
    calls = tiny_models.recorded(steered)
    sigmas = tiny_models.schedule(model, STEPS, "ddim_uniform")
    start = peers.start_noise(LATENTS, float(sigmas[0]))
    whole = tiny_models.sample_cfg(calls.model, POSITIVE, NEGATIVE, CFG, start, sigmas)
    assert calls.batches == [3] * 4 + [2] * 4
    # by hand: four steered steps, then the plain model takes over
    half = tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, CFG, start, sigmas[:5])
    rest = tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, CFG, torch.zeros_like(half), sigmas[4:], latent=half)
    assert tiny_models.relative(whole, rest) < 1e-5
    with_rest = theirs(reference, [FIRST], [1.0], [0], [4], momentum=0.5, beta=0.8)
    assert tiny_models.relative(whole, with_rest) > 1e-3
    without = theirs(reference, [FIRST], [1.0], [0], [4])
    assert tiny_models.relative(ours(model, entry(FIRST, 1.0, 0, 4)), without) < 1e-4  # alike without momentum
