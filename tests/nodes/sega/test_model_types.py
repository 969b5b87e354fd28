"""One formula for every model family, against a sampler written out by hand.

It does one forward a conditioning, and the edit in numpy.
"""

from __future__ import annotations

import itertools

import pytest
import slow_sega as slow
import tiny_models
import torch
from comfy.model_base import ModelType

POSITIVE, NEGATIVE = tiny_models.unet_cond(1), tiny_models.unet_cond(2)
TARGETS = [tiny_models.unet_cond(11), tiny_models.unet_cond(12), tiny_models.unet_cond(13)]
TYPES = [ModelType.EPS, ModelType.V_PREDICTION, ModelType.FLOW, ModelType.EDM]
CFG = 3.0


def by_hand(model, sigmas, start, entries, momentum=0.0, beta=0.4, over="channel"):
    """Euler from σ₀ to σ_n with x0 = uncond + cfg·(text − uncond) − σ·Σγ."""
    base, sampling, nu = model.model, model.model.model_sampling, {}
    concepts = [
        slow.SlowConcept(
            e.scale, e.threshold, *map(sampling.percent_to_sigma, (e.window.start_percent, e.window.end_percent))
        )
        for e in entries
    ]
    largest = sigmas[0] > sampling.sigma_max * (1 - 1e-5)
    x = sampling.noise_scaling(sigmas[0], start, torch.zeros_like(start), bool(largest))
    for sigma, following in itertools.pairwise(sigmas):

        def predict(conditioning, x=x, sigma=sigma):
            context = conditioning[0][0].repeat(len(x), 1, 1)
            return base.apply_model(x, sigma.repeat(len(x)), c_crossattn=context, transformer_options={})

        negative = predict(NEGATIVE)
        x0 = negative + CFG * (predict(POSITIVE) - negative)
        # Δn = Δε (or Δv): (x − x0)/σ is the noise estimate up to a part that both share
        differences = {
            i: (((x - predict(e.conditioning)) - (x - negative)) / sigma).double().numpy()
            for i, e in enumerate(entries)
        }
        total, nu = slow.step(differences, concepts, float(sigma), momentum, beta, nu, over)
        x0 = x0 - sigma * torch.from_numpy(total).float()
        x = x + (x - x0) / sigma * (following - sigma)
    return sampling.inverse_noise_scaling(sigmas[-1], x)


@pytest.mark.slow
@pytest.mark.parametrize("over", ["channel", "latent"])
@pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
def test_every_model_type_is_steered_as_written_out_by_hand(model_type, over):
    model = tiny_models.unet_model(model_type)
    sigmas = tiny_models.schedule(model, 6, "sgm_uniform")
    start = tiny_models.noise(1, 4, 8, 8, seed=1)
    entries = [
        tiny_models.concept(TARGETS[0], 2.0, 0.9),
        tiny_models.concept(TARGETS[1], -1.5, 0.5, start=0.3),
        tiny_models.concept(TARGETS[2], 1.0, 0.0, start=0.1, end=0.7),
    ]
    expected = by_hand(model, sigmas, start, entries, 0.3, 0.6, over)
    plain = by_hand(model, sigmas, start, [])
    steered = tiny_models.steer(model, *entries, momentum=0.3, beta=0.6, over=over)
    found = tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, CFG, start, sigmas)
    assert tiny_models.relative(tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, CFG, start, sigmas), plain) < 1e-4
    assert tiny_models.relative(found, plain) > 0.01
    assert tiny_models.relative(found, expected) < 1e-4


@pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
def test_a_batch_of_three_equals_three_singles_with_the_same_noise(model_type):
    model = tiny_models.unet_model(model_type)
    sigmas = tiny_models.schedule(model, 5, "sgm_uniform")
    start = tiny_models.noise(3, 4, 8, 8, seed=2)
    steered = tiny_models.steer(
        model, tiny_models.concept(TARGETS[0], 2.0, 0.9), tiny_models.concept(TARGETS[1], 1.0, 0.5), momentum=0.3
    )
    batch = tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, CFG, start, sigmas)
    plain = tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, CFG, start, sigmas)
    for i in range(3):
        single = tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, CFG, start[i : i + 1], sigmas)
        assert tiny_models.relative(batch[i : i + 1], single) < 1e-4
        assert tiny_models.relative(batch[i : i + 1], plain[i : i + 1]) > 0.01


def test_threshold_0_without_momentum_is_composable_guidance():
    """x0 = n + cfg·(p − n) + Σ s_i·(c_i − n), all in denoised predictions."""
    model = tiny_models.stub_model()
    positive, negative = tiny_models.stub_cond(1), tiny_models.stub_cond(2)
    targets = [tiny_models.stub_cond(3), tiny_models.stub_cond(4)]
    steered = tiny_models.steer(model, tiny_models.concept(targets[0], 2.0), tiny_models.concept(targets[1], -3.0))
    sigmas = tiny_models.schedule(model)
    found = tiny_models.added_term(
        tiny_models.sample_cfg(model, positive, negative), tiny_models.sample_cfg(steered, positive, negative), sigmas
    )
    n, one, two = (tiny_models.eps_of(c) for c in (negative, *targets))
    torch.testing.assert_close(found, 2.0 * (one - n) - 3.0 * (two - n), rtol=1e-3, atol=1e-3)


def test_a_video_is_thresholded_over_all_its_frames():
    size = (4, 3, 5, 5)
    model = tiny_models.stub_model(size=size)
    positive, negative = (tiny_models.stub_cond(i, size=size) for i in (1, 2))
    target = tiny_models.stub_cond(3, size=size)
    start, sigmas = tiny_models.noise(1, *size), tiny_models.schedule(model)
    plain = tiny_models.sample_cfg(model, positive, negative, start=start, sigmas=sigmas)
    steered = tiny_models.steer(model, tiny_models.concept(target, 5.0, 0.9))
    edited = tiny_models.sample_cfg(steered, positive, negative, start=start, sigmas=sigmas)
    found = tiny_models.added_term(plain, edited, sigmas)
    difference = (tiny_models.eps_of(target, size) - tiny_models.eps_of(negative, size)).double().numpy()
    expected = torch.from_numpy(5.0 * slow.keep(difference, 0.9)).float()
    assert expected.count_nonzero() == 4 * 8  # of 75 positions in each channel
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
