"""The pack in ComfyUI inverts and finds masks as the authors' port does, where that is not at fault.

Same random UNet, same embeddings, same integer timesteps, same noises.
"""

from __future__ import annotations

import authors_unet
import pytest
import tiny_models
import torch
from edit_runs import invert
from semantic_steering.guidance_core import binarise, heatmap
from semantic_steering.nodes.host.editing import diffedit as host

from benchmarks import peers

SOURCE, TARGET, NEGATIVE = tiny_models.unet_cond(1), tiny_models.unet_cond(2), tiny_models.unet_cond(3)


@pytest.fixture(scope="module")
def model():
    return tiny_models.unet_model()


@pytest.fixture(scope="module")
def reference(model):
    return peers.DiffEdit(authors_unet.reference_unet(model))


def sigma_of(model, timestep: int) -> float:
    return float(model.get_model_object("model_sampling").sigmas[timestep])


@pytest.mark.parametrize(("steps", "strength"), [(10, 0.8), (10, 1.0), (20, 0.5)])
def test_every_state_of_the_plain_inversion_is_diffusers(steps, strength, model, reference):
    pictures = tiny_models.noise(2, 4, 8, 8, seed=4)
    expected = reference.invert(pictures, SOURCE, steps, strength).flip(1).unbind(1)
    timesteps = reference.inverse_timesteps(steps, strength)
    assert len(expected) == len(timesteps) == round(steps * strength)
    sigmas = torch.tensor([*reversed([sigma_of(model, t) for t in timesteps]), 0.0])
    found = invert(model, SOURCE, pictures, method="ddim", sigmas=sigmas).inversion
    for state, sigma, theirs in zip(found.latents[1:], found.sigmas[1:], expected, strict=True):
        assert tiny_models.relative(state / (1 + sigma**2).sqrt(), theirs) < 1e-4
    assert tiny_models.relative(expected[-1], pictures) > 0.1


@pytest.mark.parametrize("cfg", [7.5, 3.0])
@pytest.mark.parametrize(("strength", "ratio"), [(0.5, 2.0), (0.8, 1.5), (0.3, 2.2)])
def test_the_mask_is_diffusers(strength, ratio, cfg, model, reference, monkeypatch):
    """The map up to guidance's factor, which the normalisation takes out; ours is made without guidance."""
    maps, seed, steps = 6, 9, 50
    picture = tiny_models.noise(1, 4, 8, 8, seed=5)
    generator = torch.Generator().manual_seed(seed)
    noises = torch.cat([torch.randn(1, 4, 8, 8, generator=generator) for _ in range(maps)])
    mask, raw = authors_unet.mask_and_map(
        reference, monkeypatch, picture, source=SOURCE, target=TARGET, negative=NEGATIVE, noises=noises, cfg=cfg,
        ratio=ratio, steps=steps, strength=strength,
    )  # fmt: skip
    sigma = sigma_of(model, reference.mask_timestep(steps, strength))
    monkeypatch.setattr(host, "level_of", lambda model, strength: sigma)
    found = host.estimate_difference(model, SOURCE, TARGET, picture, strength, maps, seed)
    # prompt and negative are swapped there: p + cfg·(n − p), so the two texts' difference is (1 − cfg) times ours
    assert tiny_models.relative(found * (cfg - 1), raw) < 1e-4
    heat = heatmap(found, ratio)
    assert tiny_models.relative(heat, heatmap(raw, ratio)) < 1e-4
    clear = (heat - 0.5).abs() > 1e-4
    assert clear.float().mean() > 0.95
    assert torch.equal(binarise(heat, 0.5)[clear], mask[clear])
    assert 0 < mask.mean() < 1
