"""Inverting and editing again gives the same bits: after an error, an interrupt or another run."""

from __future__ import annotations

import comfy.model_management
import pytest
import tiny_models
import torch
from comfy.model_management import InterruptProcessingException
from edit_runs import edit, find_mask, invert, mixer_model

TEXT, OTHER = tiny_models.stub_cond(1), tiny_models.stub_cond(2)
PICTURES = tiny_models.noise(2, *tiny_models.SIZE, seed=5)
MASK = torch.zeros(1, 48, 48)
MASK[:, 8:40, 16:] = 0.7


def run_invert(model):
    found = invert(model, TEXT, PICTURES, steps=10)
    return [*found.inversion.latents, found.latent["samples"], torch.tensor(found.inversion.residuals)]


def run_mask(model):
    return list(find_mask(model, TEXT, OTHER, PICTURES, threshold=0.3, maps=4))


def run_edit(model):
    inversion = invert(model, TEXT, PICTURES, steps=10, method="random").inversion
    return [edit(model, OTHER, TEXT, inversion, MASK)]


RUNS = {"invert": run_invert, "mask": run_mask, "edit": run_edit}


@pytest.fixture
def model():
    return mixer_model()


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("name", RUNS)
def test_again_and_after_another_run_the_bits_are_the_same(name, model):
    first = RUNS[name](model)
    assert same(RUNS[name](model), first)
    for other in RUNS.values():
        other(model)
    assert same(RUNS[name](model), first)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, "interrupt"])
@pytest.mark.parametrize("name", RUNS)
def test_an_error_or_interrupt_in_the_middle_leaves_the_model_as_it_was(name, error, model, monkeypatch):
    before, first = tiny_models.state_of(model), RUNS[name](model)
    network, count = model.model.diffusion_model, []
    forward = network.forward

    def disturb(*args, **kwargs):
        count.append(1)
        if len(count) == 3:
            if error != "interrupt":
                raise error("made up")
            comfy.model_management.interrupt_current_processing(True)
        return forward(*args, **kwargs)

    expected = InterruptProcessingException if error == "interrupt" else error
    with monkeypatch.context() as patch:
        patch.setattr(network, "forward", disturb)
        if name == "mask":  # one map a call, so that there is a middle
            patch.setattr(model.model, "memory_required", lambda *args, **kwargs: 1e30)
        with pytest.raises(expected):
            RUNS[name](model)
    assert len(count) < 6, "it went on after the interrupt"
    assert tiny_models.state_of(model) == before
    assert same(RUNS[name](model), first)


def test_a_refused_residual_names_the_step_and_leaves_the_model_as_it_was(model):
    before, first = tiny_models.state_of(model), run_invert(model)
    with pytest.raises(ValueError, match=r"inversion step \d+ of 10 \(σ [\d.]+\): picture \d of 2 .* after 1 iter"):
        invert(model, TEXT, PICTURES, steps=10, denoise=1.0, cfg=12.0, negative=OTHER, iterations=1)
    assert tiny_models.state_of(model) == before
    assert same(run_invert(model), first)


@pytest.mark.parametrize("bad", [0, 1])
def test_one_picture_that_is_not_solved_refuses_its_batch(bad, model, monkeypatch):
    """And the error names that one."""
    forward = model.model.diffusion_model.forward

    def restless(x, *args, **kwargs):
        out = forward(x, *args, **kwargs)
        out[bad] += 3 * torch.sin(20 * x[bad])
        return out

    monkeypatch.setattr(model.model.diffusion_model, "forward", restless)
    with pytest.raises(
        ValueError, match=rf"inversion step \d+ of 8 .*: picture {bad + 1} of 2 has a relative residual"
    ):
        invert(model, TEXT, PICTURES, steps=10)


def test_cancel_is_seen_at_every_level_of_random(model, monkeypatch):
    """No model is asked there, in which the host would look itself."""
    sampling, levels = model.model.model_sampling, []
    mix = sampling.noise_scaling

    def note(sigma, noise, picture, *args):
        if picture.shape == PICTURES.shape:
            levels.append(float(sigma))
            if len(levels) == 3:
                comfy.model_management.interrupt_current_processing(True)
        return mix(sigma, noise, picture, *args)

    monkeypatch.setattr(sampling, "noise_scaling", note)
    with pytest.raises(InterruptProcessingException):
        invert(model, TEXT, PICTURES, steps=10, method="random")
    assert len(levels) == 3


@pytest.mark.parametrize("method", ["fixed point", "ddim"])
def test_a_model_that_gives_no_numbers_is_refused_at_the_step(method, model, monkeypatch):
    calls = tiny_models.recorded(model)
    forward = model.model.diffusion_model.forward

    def broken(x, *args, **kwargs):
        out = forward(x, *args, **kwargs)
        if len(calls.seen) >= 4:
            out[1] = torch.nan
        return out

    monkeypatch.setattr(model.model.diffusion_model, "forward", broken)
    with pytest.raises(ValueError, match=r"inversion step \d of 8"):
        invert(calls.model, TEXT, PICTURES, steps=10, method=method)
    assert len(calls.seen) == 4


@pytest.mark.parametrize("name", RUNS)
def test_gradients_are_neither_needed_nor_kept(name, model):
    """Called directly, outside the host's inference mode."""
    with torch.enable_grad():
        assert not torch.is_inference_mode_enabled()
        weight = torch.nn.Parameter(torch.ones(()))
        forward = model.model.diffusion_model.forward
        model.model.diffusion_model.forward = lambda *args, **kwargs: weight * forward(*args, **kwargs)
        assert not any(tensor.requires_grad for tensor in RUNS[name](model))
    with torch.inference_mode():
        assert all(tensor.isfinite().all() for tensor in RUNS[name](model))
