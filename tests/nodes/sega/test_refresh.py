"""refresh: concepts are evaluated in every n-th step, and their direction is held in between."""

from __future__ import annotations

import itertools

import pytest
import slow_sega as slow
import tiny_models
import torch
from comfy.model_base import ModelType
from edit_runs import calm_unet
from semantic_steering.nodes.host.sega.patch import patch_model
from semantic_steering.nodes.host.sega.settings import SEGASettings
from semantic_steering.nodes.sega import SEGAGuidance, SEGASampler

POSITIVE, NEGATIVE = tiny_models.unet_cond(1), tiny_models.unet_cond(2)
CFG, STEPS = 3.0, 7
START = tiny_models.noise(2, 4, 8, 8, seed=4)


@pytest.fixture(scope="module")
def model():
    """Calm: in a chaotic network rounding of the last bit grows to what is tested."""
    return calm_unet(ModelType.EPS)


def entries():
    return (
        tiny_models.concept(tiny_models.unet_cond(11), 2.0, 0.8, start=0.1),
        tiny_models.concept(tiny_models.unet_cond(12), -1.5, 0.5, 0.3, 0.8),
    )


def schedule(model):
    return tiny_models.schedule(model, STEPS, "sgm_uniform")


def run(model, refresh, *concepts, momentum=0.0, sampler="euler", cfg=CFG):
    settings = SEGASettings(momentum, refresh=refresh)
    steered = patch_model(model, concepts or entries(), settings)
    return tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, cfg, START, schedule(model), sampler=sampler)


def by_hand(model, refresh, momentum):
    """Euler with the edit in numpy; the directions of step s are those of the last step that is stale."""
    base, sampling, nu = model.model, model.model.model_sampling, {}
    concepts = [
        slow.SlowConcept(
            e.scale, e.threshold, *map(sampling.percent_to_sigma, (e.window.start_percent, e.window.end_percent))
        )
        for e in entries()
    ]
    sigmas = schedule(model)
    x = sampling.noise_scaling(sigmas[0], START, torch.zeros_like(START), True)
    held: dict[int, tuple[int, object]] = {}
    for step, (sigma, following) in enumerate(itertools.pairwise(sigmas)):

        def predict(conditioning, x=x, sigma=sigma):
            context = conditioning[0][0].repeat(len(x), 1, 1)
            return base.apply_model(x, sigma.repeat(len(x)), c_crossattn=context, transformer_options={})

        negative = predict(NEGATIVE)
        x0 = negative + CFG * (predict(POSITIVE) - negative)
        for i, entry in enumerate(entries()):
            inside = concepts[i].end < float(sigma) <= concepts[i].start * (1 + 1e-4)
            before = float(sigma) > concepts[i].start * (1 + 1e-4)
            if not (inside or (before and momentum > 0)):
                held.pop(i, None)
            elif i not in held or step - held[i][0] >= refresh:
                held[i] = step, ((negative - predict(entry.conditioning)) / sigma).double().numpy()
        differences = {i: difference for i, (_, difference) in sorted(held.items())}
        total, nu = slow.step(differences, concepts, float(sigma), momentum, 0.4, nu, "channel") if held else (0.0, {})
        if held:
            x0 = x0 - sigma * torch.from_numpy(total).float()
        x = x + (x - x0) / sigma * (following - sigma)
    return sampling.inverse_noise_scaling(sigmas[-1], x)


@pytest.mark.parametrize("momentum", [0.0, 0.3])
@pytest.mark.parametrize("refresh", [1, 2, 3])
def test_it_is_the_run_written_out_by_hand(model, refresh, momentum):
    found = run(model, refresh, momentum=momentum)
    assert tiny_models.relative(found, by_hand(model, refresh, momentum)) < 1e-4
    if refresh > 1:
        assert tiny_models.relative(found, by_hand(model, 1, momentum)) > 1e-3


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_sde", "uni_pc"])
def test_a_direction_that_never_turns_gives_the_same_run(sampler):
    model = tiny_models.stub_model()
    positive, negative = tiny_models.stub_cond(1), tiny_models.stub_cond(2)
    target = tiny_models.concept(tiny_models.stub_cond(3), 2.0, 0.8, start=0.2)
    results = []
    for refresh in (1, 3):
        torch.manual_seed(0)
        steered = patch_model(model, (target,), SEGASettings(0.2, refresh=refresh))
        results.append(tiny_models.sample_cfg(steered, positive, negative, sampler=sampler))
    assert tiny_models.relative(results[1], results[0]) < 1e-4
    assert tiny_models.relative(results[0], tiny_models.sample_cfg(model, positive, negative, sampler=sampler)) > 0.01


@pytest.mark.parametrize(("refresh", "evaluated"), [(1, 7), (2, 4), (3, 3), (7, 1), (10, 1)])
def test_what_it_costs(model, refresh, evaluated):
    """Rows of the forward passes of one picture: 2 a step, and one more where the concept is evaluated."""
    calls = tiny_models.recorded(model)
    concept = tiny_models.concept(tiny_models.unet_cond(11), 2.0, 0.8)
    steered = patch_model(calls.model, (concept,), SEGASettings(0.0, refresh=refresh))
    tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, CFG, START[:1], schedule(model))
    assert sorted(calls.batches) == [2] * (STEPS - evaluated) + [3] * evaluated


def test_one_is_the_run_without_it_to_the_bit(model):
    plain = patch_model(model, entries(), SEGASettings(0.3))
    expected = tiny_models.sample_cfg(plain, POSITIVE, NEGATIVE, CFG, START, schedule(model))
    assert torch.equal(run(model, 1, momentum=0.3), expected)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_both_nodes_take_it(model, cfg):
    concepts = entries()
    arguments = (7, STEPS, cfg, "euler", "normal", POSITIVE, NEGATIVE, {"samples": torch.zeros(1, 4, 8, 8)})
    once, every = (SEGASampler.execute(model, *arguments, concepts=concepts, refresh=n).args[0] for n in (2, 1))
    steered = SEGAGuidance.execute(model, concepts, refresh=2).args[0]
    again = SEGASampler.execute(steered, *arguments).args[0]
    assert torch.equal(once["samples"], again["samples"])
    assert tiny_models.relative(once["samples"], every["samples"]) > 1e-3


def test_a_second_run_starts_afresh(model):
    steered = patch_model(model, entries(), SEGASettings(0.2, refresh=3))
    once, again = (tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, CFG, START, schedule(model)) for _ in range(2))
    assert torch.equal(once, again)


@pytest.mark.parametrize("refresh", [0, -2])
def test_less_than_one_is_refused(model, refresh):
    with pytest.raises(ValueError, match=f"refresh is {refresh}; it must be 1"):
        SEGAGuidance.execute(model, entries(), refresh=refresh)
