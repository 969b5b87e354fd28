"""Inversion, DiffEdit and sliders on every family, on checkpoints as the stock loaders make them: rows of
docs/compatibility.md (SEGA: test_families.py).

An inversion comes back at 70 dB or more: these networks are calm enough for that (family_models.CALM), on chaotic ones
no fixed point is found.
"""

from __future__ import annotations

import edit_runs
import lora_states as states
import pytest
import tiny_models
import torch
from family_cases import ROUND_TRIP, STRENGTH, VISIBLE
from slider_runs import load

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("little_memory")]


@pytest.mark.compat(feature="DDIM inversion")
def test_an_inversion_comes_back(case):
    assert tiny_models.relative(case.inverted.inversion.latents[-1], case.inverted.inversion.latents[0]) > VISIBLE
    back = edit_runs.decode(case.family.model, case.family.positive, case.inverted, case.picture)
    assert edit_runs.psnr(back, case.picture) > ROUND_TRIP


@pytest.mark.compat(feature="DiffEdit mask")
def test_a_mask_marks_where_two_texts_differ(case):
    """threshold x clamp = 1: what is over the mean."""
    family = case.family
    settings = {"maps": 2, "clamp": 2.0, "grow": 0, "blur": 0}
    mask, heat = edit_runs.find_mask(family.model, family.positive, family.target, case.picture, **settings)
    assert 0 < mask.mean() < 1
    assert heat.max() > heat.min() >= 0
    mask, heat = edit_runs.find_mask(family.model, family.positive, family.positive, case.picture, **settings)
    assert not mask.any()
    assert not heat.any()


@pytest.mark.compat(feature="DiffEdit sampler")
def test_an_edit_stays_inside_its_mask(case):
    family, inversion = case.family, case.inverted.inversion
    ratio = family.model.get_model_object("latent_format").spacial_downscale_ratio
    width = family.shape[-1]
    mask = torch.zeros(1, family.shape[-2] * ratio, width * ratio)
    arguments = (family.model, family.target, family.negative, inversion)
    assert torch.equal(edit_runs.edit(*arguments, mask, family.cfg), case.picture)
    mask[..., : width // 2 * ratio] = 1
    edited = edit_runs.edit(*arguments, mask, family.cfg)
    assert torch.equal(edited[..., width // 2 :], case.picture[..., width // 2 :])
    assert tiny_models.relative(edited, case.picture) > VISIBLE


@pytest.mark.compat(feature="slider")
def test_a_slider_acts_within_its_window(case):
    model = case.family.model
    prefix = "transformer." if case.row.config.__name__ == "Flux" else "diffusion_model."  # Flux: parts of a fused qkv
    state = states.peft(states.targets(model, prefix, lambda name: "att" in name))
    assert torch.equal(case.generate(load(model, state, 0.0)), case.plain)
    late = case.generate(load(model, state, STRENGTH, start=0.2))
    assert tiny_models.relative(late, case.plain) > VISIBLE
    assert tiny_models.relative(case.generate(load(model, state, STRENGTH)), late) > VISIBLE


def test_afterwards_the_model_is_what_it_was(case):
    assert torch.equal(case.generate(case.family.model), case.plain)
    assert tiny_models.state_of(case.family.model) == case.state
