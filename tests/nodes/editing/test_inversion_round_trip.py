"""Invert, then decode with the host's own samplers: the picture comes back."""

from __future__ import annotations

import logging
import math

import comfy.latent_formats
import comfy.samplers
import pytest
import tiny_models
import torch
from comfy.model_base import ModelType
from edit_runs import TYPES, VIDEO, calm_unet, decode, invert, mixer_model, psnr
from semantic_steering.nodes.sega import SEGAGuidance

from nodes import KSamplerAdvanced

PROMISED = 45.0  # dB
POSITIVE, NEGATIVE, TARGET = tiny_models.unet_cond(1), tiny_models.unet_cond(2), tiny_models.unet_cond(3)
TEXT, OTHER = tiny_models.stub_cond(1), tiny_models.stub_cond(2)
PICTURES = tiny_models.noise(2, *tiny_models.SIZE, seed=5)


LENGTHS = [(25, 0.8), (25, 1.0), (50, 0.8), (50, 1.0)]


def check_round_trip(model, text, samples, steps, denoise):
    """The worst picture's dB."""
    found = invert(model, text, samples, steps=steps, denoise=denoise)
    assert len(found.sigmas) == len(found.inversion.latents) == round(steps * denoise) + 1
    assert len(found.inversion.residuals) == round(steps * denoise)
    assert max(found.inversion.residuals) < 1e-2
    assert tiny_models.relative(found.inversion.latents[-1], samples) > 0.1  # it did go somewhere
    return psnr(decode(model, text, found, samples), samples)


@pytest.mark.parametrize(("steps", "denoise"), LENGTHS)
@pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
def test_the_defaults_give_the_picture_back(model_type, steps, denoise):
    dB = check_round_trip(mixer_model(model_type), TEXT, PICTURES, steps, denoise)
    assert dB > (PROMISED if model_type is ModelType.EPS else 100)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "denoise"), list(zip(TYPES, (1.0, 1.0, 1.0, 0.8), strict=True)))
def test_so_they_do_on_random_unets(model_type, denoise):
    dB = check_round_trip(calm_unet(model_type), POSITIVE, tiny_models.noise(1, 4, 8, 8, seed=5), 25, denoise)
    assert dB > (PROMISED if model_type is ModelType.EPS else 100)


def test_a_step_too_coarse_to_solve_is_refused_and_says_what_helps():
    """linear_quadratic leaves an eps model its last two units of σ as one step."""
    with pytest.raises(ValueError, match=r"step 1 of 20 .* residual of .* Raise iterations or steps"):
        invert(mixer_model(), TEXT, PICTURES, steps=25, scheduler="linear_quadratic")


def test_a_fixed_point_comes_closer_than_the_plain_step():
    model = mixer_model()
    plain = invert(model, TEXT, PICTURES, method="ddim")
    solved = invert(model, TEXT, PICTURES)
    assert plain.inversion.evaluations == 20 < solved.inversion.evaluations <= 8 * 20
    dB = [psnr(decode(model, TEXT, found, PICTURES), PICTURES) for found in (plain, solved)]
    assert dB[1] > dB[0] + 20


def test_the_plain_step_is_diffusers_rule_written_out():
    """In its own terms: x_t of unit variance, ε of the state as it is now and of the next timestep, ᾱ of both."""
    model = mixer_model()
    sampling, network = model.get_model_object("model_sampling"), model.model.diffusion_model
    timesteps = [0, 60, 150, 300, 500, 750, 999]
    alphas = [1.0, *(1 / (1 + float(sampling.sigmas[t]) ** 2) for t in timesteps)]
    sigmas = torch.tensor([*(float(sampling.sigmas[t]) for t in reversed(timesteps)), 0.0])
    found = invert(model, TEXT, PICTURES, method="ddim", sigmas=sigmas).inversion
    x = PICTURES
    for i, timestep in enumerate(timesteps):
        now, following = alphas[i], alphas[i + 1]
        context = TEXT[0][0].repeat(len(x), 1, 1)
        epsilon = network(x, torch.full((len(x),), float(timestep)), context=context)
        picture = (x - math.sqrt(1 - now) * epsilon) / math.sqrt(now)
        x = math.sqrt(following) * picture + math.sqrt(1 - following) * epsilon
        assert tiny_models.relative(math.sqrt(following) * found.latents[i + 1], x) < 1e-4
    assert tiny_models.relative(x, PICTURES) > 0.1


@pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
def test_the_plain_step_gives_the_network_its_present_state_and_the_next_level(model_type, monkeypatch):
    model, seen = mixer_model(model_type), []
    sampling, network = model.get_model_object("model_sampling"), model.model.diffusion_model
    forward = network.forward

    def note(x, timesteps, **kwargs):
        seen.append((x.clone(), float(timesteps[0])))
        return forward(x, timesteps, **kwargs)

    monkeypatch.setattr(network, "forward", note)
    found = invert(model, TEXT, PICTURES, method="ddim", steps=10).inversion
    assert len(seen) == len(found.sigmas) - 1
    for i, (x, timestep) in enumerate(seen):
        now, following = found.sigmas[i], found.sigmas[i + 1]
        torch.testing.assert_close(x, sampling.calculate_input(now, found.latents[i]), rtol=1e-5, atol=1e-5)
        assert timestep == pytest.approx(float(sampling.timestep(following)))


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
def test_every_scheduler_gives_the_picture_back(scheduler):
    model = mixer_model(ModelType.V_PREDICTION)
    found = invert(model, TEXT, PICTURES, steps=25, scheduler=scheduler)
    assert psnr(decode(model, TEXT, found, PICTURES), PICTURES) > PROMISED
    whole = tiny_models.schedule(model, 25, scheduler)
    kept = int((len(whole) - 1) * 0.8 + 1e-6)
    assert torch.equal(found.sigmas, whole[-(kept + 1) :])
    assert torch.equal(found.inversion.sigmas, found.sigmas.flip(0))


@pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
@pytest.mark.parametrize("denoise", [0.6, 1.0])
def test_the_inverted_latent_goes_through_the_stock_advanced_sampler(model_type, denoise, caplog):
    """add_noise disable, the same schedule, from the step that denoise left out."""
    model, steps = mixer_model(model_type), 25
    with caplog.at_level(logging.WARNING, "semantic_steering"):
        found = invert(model, TEXT, PICTURES, steps=steps, denoise=denoise)
    lost = model_type is ModelType.FLOW and denoise == 1.0
    assert lost == ("inverted_latent" in caplog.text)
    assert found.latent["samples"].isfinite().all()
    first = steps - (len(found.sigmas) - 1)
    (latent,) = KSamplerAdvanced().sample(
        model, "disable", 0, steps, 1.0, "euler", "normal", TEXT, OTHER, found.latent, first, 10000, "disable"
    )
    dB = psnr(latent["samples"], PICTURES)
    assert dB < 20 if lost else dB > PROMISED


def test_at_pure_noise_a_flow_model_goes_through_the_noise_output():
    model = mixer_model(ModelType.FLOW)
    found = invert(model, TEXT, PICTURES, denoise=1.0)
    assert float(found.sigmas[0]) == 1.0
    assert all(state.isfinite().all() for state in found.inversion.latents)
    assert found.noise.generate_noise({"samples": PICTURES}).isfinite().all()
    assert psnr(decode(model, TEXT, found, PICTURES), PICTURES) > 100


@pytest.mark.parametrize("layout", [comfy.latent_formats.SDXL(), comfy.latent_formats.SD3()], ids=["scale", "shift"])
@pytest.mark.parametrize("model_type", [ModelType.EPS, ModelType.FLOW], ids=lambda t: t.name)
def test_latent_formats_with_a_scale_or_a_shift(model_type, layout):
    """The states are in the model's own space, the outputs in the VAE's."""
    size = (layout.latent_channels, 6, 6)
    model, samples = mixer_model(model_type, size, layout), 3 * tiny_models.noise(1, *size, seed=6) + 1
    text = tiny_models.stub_cond(1, size=size)
    found = invert(model, text, samples)
    assert torch.equal(found.inversion.samples, samples)
    torch.testing.assert_close(found.inversion.latents[0], layout.process_in(samples))
    assert psnr(decode(model, text, found, samples), samples) > PROMISED
    (latent,) = KSamplerAdvanced().sample(
        model, "disable", 0, 25, 1.0, "euler", "normal", text, text, found.latent, 5, 10000, "disable"
    )
    assert psnr(latent["samples"], samples) > PROMISED


@pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
def test_a_video_gives_its_frames_back(model_type):
    model, samples, text = (
        mixer_model(model_type, VIDEO),
        tiny_models.noise(1, *VIDEO, seed=6),
        tiny_models.stub_cond(1, size=VIDEO),
    )
    found = invert(model, text, samples)
    assert found.inversion.latents[-1].shape == samples.shape
    assert psnr(decode(model, text, found, samples), samples) > PROMISED


def test_an_empty_latent_is_inverted_as_the_hosts_samplers_take_it():
    """They do not shift zeros."""
    layout = comfy.latent_formats.SD3()
    size = (layout.latent_channels, 6, 6)
    model, text, zeros = (
        mixer_model(ModelType.FLOW, size, layout),
        tiny_models.stub_cond(1, size=size),
        torch.zeros(1, *size),
    )
    found = invert(model, text, zeros, denoise=0.6)
    assert not found.inversion.latents[0].any()
    back = decode(model, text, found, zeros)
    torch.testing.assert_close(layout.process_in(back), zeros, rtol=0, atol=1e-3)


@pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
def test_a_batch_equals_its_pictures_alone(model_type):
    model, samples = (
        mixer_model(model_type),
        tiny_models.noise(3, *tiny_models.SIZE, seed=7) * torch.tensor([1.0, 0.2, 2.0]).reshape(3, 1, 1, 1),
    )
    batch = invert(model, TEXT, samples)
    for i in range(3):
        single = invert(model, TEXT, samples[i : i + 1])
        for together, alone in zip(batch.inversion.latents, single.inversion.latents, strict=True):
            assert tiny_models.relative(together[i : i + 1], alone) < 1e-4


@pytest.mark.parametrize("cfg", [0.0, 1.5, 3.0])
def test_guidance_needs_the_negative_and_reports_its_residual(cfg):
    model = mixer_model()
    with pytest.raises(ValueError, match=r"negative is not connected"):
        invert(model, TEXT, PICTURES, cfg=cfg)
    found = invert(model, TEXT, PICTURES, cfg=cfg, negative=OTHER, steps=50, denoise=0.6)
    assert len(found.inversion.residuals) == 30 and 0 < max(found.inversion.residuals) < 1e-2
    assert psnr(decode(model, TEXT, found, PICTURES, OTHER, cfg), PICTURES) > PROMISED
    without = invert(model, TEXT, PICTURES, steps=50, denoise=0.6)
    assert tiny_models.relative(found.inversion.latents[-1], without.inversion.latents[-1]) > 0.01


def test_at_cfg_1_the_negative_is_neither_needed_nor_evaluated():
    calls = tiny_models.recorded(mixer_model())
    plain = invert(calls.model, TEXT, PICTURES)
    with_negative = invert(calls.model, TEXT, PICTURES, negative=OTHER)
    assert torch.equal(plain.inversion.latents[-1], with_negative.inversion.latents[-1])
    assert set(calls.batches) == {2}
    assert len(calls.seen) == plain.inversion.evaluations + with_negative.inversion.evaluations


def test_no_evaluation_is_at_sigma_0_and_each_is_at_the_level_it_solves():
    calls = tiny_models.recorded(mixer_model())
    plain = invert(calls.model, TEXT, PICTURES, method="ddim", steps=10)
    assert torch.equal(torch.tensor([call.sigma for call in calls.seen]), plain.inversion.sigmas[1:])
    calls.seen.clear()
    solved = invert(calls.model, TEXT, PICTURES, steps=10)
    levels = list(dict.fromkeys(call.sigma for call in calls.seen))
    assert torch.equal(torch.tensor(levels), solved.inversion.sigmas[1:])


def test_sega_edits_the_inverted_picture_and_without_concepts_gives_it_back():
    model = mixer_model()
    found = invert(model, TEXT, PICTURES)
    (bare,) = SEGAGuidance.execute(model, None).args
    assert psnr(decode(bare, TEXT, found, PICTURES), PICTURES) > PROMISED
    (steered,) = SEGAGuidance.execute(model, (tiny_models.concept(OTHER, 3.0, 0.5),)).args
    edited = decode(steered, TEXT, found, PICTURES)
    assert edited.isfinite().all()
    assert psnr(edited, PICTURES) < 30


def test_another_prompt_changes_the_picture():
    model = mixer_model()
    found = invert(model, TEXT, PICTURES)
    assert psnr(decode(model, OTHER, found, PICTURES), PICTURES) < 30
