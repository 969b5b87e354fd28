"""One real training step on every family, on checkpoints as the stock loaders make them: the slider loads, and acts."""

from __future__ import annotations

import comfy.sd
import pytest
import tiny_models
import torch
from family_cases import VISIBLE
from semantic_steering.nodes.host.lora.fitting import fit
from training_runs import training

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("little_memory")]

# Of a step that changes a random network visibly; nobody would train with it.
RATE, STRENGTH = 0.02, 6.0


def test_a_step_trains_what_then_loads_and_acts(case):
    if case.row.full_size:
        pytest.skip("a step of a whole model is measured apart: its gradients need more than these machines have")
    family = case.family
    conds = {"target": family.positive, "plus 0": family.target, "minus 0": family.negative}
    plain = case.plain
    run = training(family.model, conds, rate=RATE, layers="all linear", shape=family.shape, negative=family.negative)
    run.run(1)
    tensors = run.factors.tensors()
    trained = [name for name, value in tensors.items() if name.endswith("lora_up.weight") and value.any()]
    assert len(trained) > len(run.factors.layers) / 2
    assert tiny_models.state_of(family.model) == case.state
    assert torch.equal(case.generate(family.model), plain)
    assert fit(family.model, None, tensors, "slider").matched == len(run.factors.layers)
    stock, _ = comfy.sd.load_lora_for_models(family.model, None, dict(tensors), STRENGTH, 0)
    assert tiny_models.relative(case.generate(stock), plain) > VISIBLE
