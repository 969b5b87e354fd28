"""The pack in ComfyUI computes what the authors' implementation computes.

Same random UNet, same embeddings, same noise. The reference's DDIM is ComfyUI's ddim_uniform with euler.
Left out here, because the pack departs on purpose (test_departures.py): concepts that warm up at different steps, and a
cool-down together with momentum.
"""

from __future__ import annotations

import random

import authors_unet
import pytest
import tiny_models
import torch

from benchmarks import peers

POSITIVE, NEGATIVE = tiny_models.unet_cond(1), tiny_models.unet_cond(2)


@pytest.fixture(scope="module")
def model():
    return tiny_models.unet_model()


@pytest.fixture(scope="module")
def reference(model):
    return peers.SEGA(authors_unet.reference_unet(model), POSITIVE, NEGATIVE)


def configuration(seed: int) -> dict:
    draw = random.Random(seed)
    count = 1 + seed % 5
    momentum = seed % 2 == 0
    steps = draw.choice([5, 8, 8, 10, 20])
    warm_up = draw.choice([0, 1, 2, 3])
    cool_down = not momentum and seed % 3 == 0
    return {
        "steps": steps,
        "cfg": draw.choice([2.0, 3.0, 5.0]),
        "scales": [round(draw.uniform(0.5, 3.0), 2) for _ in range(count)],
        "weights": [round(draw.uniform(0.3, 1.5), 2) for _ in range(count)] if seed % 4 == 1 else None,
        "remove": [draw.random() < 0.4 for _ in range(count)],
        "thresholds": [draw.choice([0.0, 0.5, 0.8, 0.9, 0.95]) for _ in range(count)],
        "warm_up": warm_up,
        "cool_down": [draw.randint(warm_up + 1, steps) for _ in range(count)] if cool_down else None,
        "momentum": (draw.choice([0.1, 0.3, 0.5]), draw.choice([0.4, 0.6, 0.8])) if momentum else (0.0, 0.4),
        "size": draw.choice([(8, 8), (8, 12), (16, 8)]),
    }


def ours(model, settings: dict, latents, concepts, edited=True):
    steps = settings["steps"]
    sigmas = tiny_models.schedule(model, steps, "ddim_uniform")
    assert len(sigmas) == steps + 1
    entries = []
    for i, conditioning in enumerate(concepts):
        weight = settings["weights"][i] if settings["weights"] else 1.0
        end = settings["cool_down"][i] if settings["cool_down"] else steps
        entries.append(
            tiny_models.concept(
                conditioning,
                settings["scales"][i] * weight * (-1 if settings["remove"][i] else 1),
                settings["thresholds"][i],
                peers.percent_before_step(settings["warm_up"], steps),
                peers.percent_before_step(end, steps),
            )
        )
    scale, beta = settings["momentum"]
    steered = tiny_models.steer(model, *entries, momentum=scale, beta=beta) if edited else model
    start = peers.start_noise(latents, float(sigmas[0]))
    return tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, settings["cfg"], start, sigmas)


def theirs(reference, settings: dict, latents, concepts):
    scale, beta = settings["momentum"]
    return reference(
        latents, settings["steps"], settings["cfg"], concepts,
        reverse_editing_direction=settings["remove"], edit_guidance_scale=settings["scales"],
        edit_threshold=settings["thresholds"], edit_warmup_steps=settings["warm_up"],
        edit_cooldown_steps=settings["cool_down"] or [peers.NEVER] * len(concepts), edit_weights=settings["weights"],
        edit_momentum_scale=scale, edit_mom_beta=beta,
    )  # fmt: skip


def test_both_networks_are_the_same_function(model):
    unet = authors_unet.reference_unet(model)
    x, t, context = (
        tiny_models.noise(2, 4, 8, 8, seed=5),
        torch.tensor([601.0, 601.0]),
        tiny_models.noise(2, 4, 16, seed=6),
    )
    with torch.no_grad():
        one = model.model.diffusion_model(x, t, context=context)
        other = unet(x, t, encoder_hidden_states=context).sample
    assert one.std() > 0.1
    assert tiny_models.relative(one, other) < 1e-5


def test_both_samplers_agree_without_an_edit(model, reference):
    settings = configuration(0)
    latents = tiny_models.noise(1, 4, 8, 8, seed=9)
    found = ours(model, settings, latents, [], edited=False)
    expected = reference(latents, settings["steps"], settings["cfg"], [])
    assert tiny_models.relative(found, expected) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_the_final_latents_are_the_authors(seed, model, reference):
    settings = configuration(seed)
    concepts = [tiny_models.unet_cond(100 * seed + 10 + i) for i in range(len(settings["scales"]))]
    latents = tiny_models.noise(1, 4, *settings["size"], seed=seed)
    found, expected = ours(model, settings, latents, concepts), theirs(reference, settings, latents, concepts)
    plain = ours(model, settings, latents, concepts, edited=False)
    assert tiny_models.relative(found, plain) > 0.01, "the edit must be visible for the comparison to mean anything"
    assert tiny_models.relative(found, expected) < 1e-4, settings


def test_the_configurations_cover_what_they_should():
    drawn = [configuration(seed) for seed in range(25)]
    assert {len(s["scales"]) for s in drawn} == {1, 2, 3, 4, 5}
    assert {s["warm_up"] > 0 for s in drawn} == {True, False}
    assert any(any(s["remove"]) for s in drawn)
    assert any(s["weights"] for s in drawn)
    assert sum(s["cool_down"] is not None for s in drawn) >= 3
    assert sum(s["momentum"][0] > 0 for s in drawn) >= 10
