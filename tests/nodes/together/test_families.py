"""Every feature on every family, on checkpoints as the stock loaders make them: rows of docs/compatibility.md.

Promised for each: a neutral setting gives the bits of not using the node, another one changes the latent by more than
1 %, and the MODEL is afterwards what it was. Here the loader and SEGA; test_families_editing.py has the rest.
"""

from __future__ import annotations

from typing import Any

import comfy.model_detection
import pytest
import tiny_models
import torch
from family_cases import SCALE, STEPS, TEXT, VISIBLE, Case
from semantic_steering.nodes.sega import SEGAConceptConditioning, SEGAGuidance

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("little_memory")]


def steered(case: Case, scale: float, target: list | None = None) -> Any:
    """The MODEL behind a SEGA Concept (Conditioning) and SEGA Guidance."""
    conditioning = target or case.family.target
    (concepts,) = SEGAConceptConditioning.execute(conditioning, scale=scale, start_percent=0.0).args
    return SEGAGuidance.execute(case.family.model, concepts).args[0]


def test_the_loader_takes_it_for_this_family(case):
    model = case.family.model.model
    assert type(model.model_config) is case.row.config
    assert model.model_type is case.row.kind
    if case.row.recognised:
        weights = case.row.network(case.row.recognised).state_dict()
        assert type(comfy.model_detection.model_config_from_unet(weights, "")) is case.row.config


@pytest.mark.compat(feature="SEGA")
def test_sega_steers_it_in_one_forward_a_step(case):
    assert torch.equal(case.generate(steered(case, 0.0)), case.plain)
    calls = tiny_models.recorded(steered(case, SCALE))
    assert tiny_models.relative(case.generate(calls.model), case.plain) > VISIBLE
    assert calls.batches == [case.conds] * STEPS


def part(value: Any, index: int, parts: int) -> Any:
    """What one conditioning of a batched forward was given."""
    if isinstance(value, list):
        return [part(one, index, parts) for one in value]
    return value.chunk(parts)[index] if isinstance(value, torch.Tensor) else value


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.compat(feature="SEGA")
def test_a_concept_gets_what_the_positive_carries_beside_its_text(case):
    """Its own conditioning carries nothing but text: reference latents, guidance and pictures are the positive's."""
    family, context = case.family, case.row.context
    positive, negative, target = map(case.row.text_only, (family.positive, family.negative, family.target))
    bare = tiny_models.recorded(family.model)
    case.generate(bare.model, positive, negative)
    calls = tiny_models.recorded(steered(case, SCALE, target))
    case.generate(calls.model)
    for call, untold in zip(calls.seen, bare.seen, strict=True):
        assert set(call.extra) - TEXT == set(context) | (set(untold.extra) - TEXT)
        at = {cond: part for part, cond in enumerate(call.conds)}
        for name in context:
            given = [part(call.extra[name], at[cond], len(at)) for cond in (0, 2)]
            assert same(*given), name
            default = part(untold.extra.get(name), untold.conds.index(0), len(untold.conds))
            assert default is None or not same(given[0], default), name


@pytest.mark.compat(feature="SEGA, texts of different lengths in one forward")
def test_texts_of_different_lengths(case, record_property):
    """ComfyUI repeats a UNet's text up to a common length; the text of other networks it leaves as it is."""
    features, options = case.family.target[0]
    shorter = [[features[:, : features.shape[1] // 2], options]]
    calls = tiny_models.recorded(steered(case, SCALE, shorter))
    assert tiny_models.relative(case.generate(calls.model), case.plain) > VISIBLE
    if case.row.any_length:
        assert calls.batches == [case.conds] * STEPS
    else:
        assert sum(calls.batches) == case.conds * STEPS
        assert len(calls.batches) == 2 * STEPS
        record_property("no", "ComfyUI evaluates a text of another length apart: a second forward a step")
