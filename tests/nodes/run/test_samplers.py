"""Every sampler and scheduler of the host runs, steered, through the SEGA Sampler node."""

from __future__ import annotations

import comfy.samplers
import pytest
import tiny_models
import torch
from semantic_steering.nodes.sega import SEGASampler

POSITIVE, NEGATIVE, TARGET = tiny_models.stub_cond(1), tiny_models.stub_cond(2), tiny_models.stub_cond(3)
LATENT = {"samples": torch.zeros(1, *tiny_models.SIZE)}


def run(sampler, scheduler, concepts, latent=LATENT, model=None, **options):
    torch.manual_seed(0)
    model = model or tiny_models.stub_model(growth=0.001)
    return SEGASampler.execute(
        model, 5, 6, 3.0, sampler, scheduler, POSITIVE, NEGATIVE, latent, concepts=concepts, **options
    ).args[:3]


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_every_sampler_runs_and_is_steered(sampler):
    target = (tiny_models.concept(TARGET, 2.0, 0.8, 0.2),)
    plain, *_ = run(sampler, "normal", None)
    edited, activity, _ = run(sampler, "normal", target)
    assert edited["samples"].isfinite().all()
    assert tiny_models.relative(edited["samples"], plain["samples"]) > 0.01
    assert activity.any()
    again, *_ = run(sampler, "normal", target)
    assert torch.equal(edited["samples"], again["samples"])


@pytest.mark.parametrize("scheduler", comfy.samplers.KSampler.SCHEDULERS)
def test_every_scheduler_runs_and_is_steered(scheduler):
    plain, *_ = run("euler", scheduler, None)
    edited, activity, _ = run("euler", scheduler, (tiny_models.concept(TARGET, 2.0, 0.8),))
    assert tiny_models.relative(edited["samples"], plain["samples"]) > 0.01
    assert activity.any()


def test_an_inpainting_mask_keeps_its_outside():
    """The latent's own noise mask, as after Set Latent Noise Mask."""
    samples = tiny_models.noise(1, *tiny_models.SIZE, seed=8)
    mask = torch.zeros(1, 1, 48, 48)
    mask[..., 24:, :] = 1.0
    latent = {"samples": samples, "noise_mask": mask}
    plain, *_ = run("euler", "normal", None, latent)
    edited, *_ = run("euler", "normal", (tiny_models.concept(TARGET, 2.0),), latent)
    assert torch.equal(edited["samples"][..., :3, :], samples[..., :3, :])
    assert tiny_models.relative(edited["samples"][..., 3:, :], plain["samples"][..., 3:, :]) > 0.01


def test_a_window_the_denoised_part_does_not_reach_does_nothing():
    latent = {"samples": tiny_models.noise(1, *tiny_models.SIZE, seed=8)}
    early, late = (tiny_models.concept(TARGET, 2.0, start=start, end=end) for start, end in ((0.0, 0.3), (0.5, 1.0)))
    plain, *_ = run("euler", "normal", None, latent, denoise=0.5)
    assert torch.equal(run("euler", "normal", (early,), latent, denoise=0.5)[0]["samples"], plain["samples"])
    assert not torch.equal(run("euler", "normal", (late,), latent, denoise=0.5)[0]["samples"], plain["samples"])


def test_nothing_to_denoise_returns_the_latent():
    latent = {"samples": tiny_models.noise(1, *tiny_models.SIZE, seed=8)}
    found, activity, _ = run("euler", "normal", (tiny_models.concept(TARGET, 2.0),), latent, denoise=0.0)
    assert torch.equal(found["samples"], latent["samples"])
    assert not activity.any()
