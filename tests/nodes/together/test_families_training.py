"""Training on every family, on checkpoints as the stock loaders make them: a row of docs/compatibility.md.

The gradient is the loss's own, by differences, and what was trained acts in the stock loader and in ours alike.
"""

from __future__ import annotations

import pytest
import tiny_models
import torch
from family_cases import VISIBLE
from semantic_steering.nodes.host.lora.fitting import fit
from slider_runs import load
from training_runs import asked_by, training, with_slider

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("little_memory")]

LAYERS, RATE, COUNT = "no cross-attention", 5e-3, 2
SMALL = 2e-3  # of a difference, along a gradient of length 1
STRENGTH = 20.0  # after two steps


@pytest.fixture(scope="module")
def trained(case):
    """Two steps of a slider from the negative to the second text."""
    if case.row.full_size:
        pytest.skip("whole sizes were trained on a GPU, see performance.md")
    family = case.family
    conds = {"target": family.positive, "plus 0": family.target, "minus 0": family.negative}
    run = training(family.model, conds, rate=RATE, layers=LAYERS, shape=family.shape)
    run.run(2)
    return run


def at_a_fixed_draw(run, also=lambda loss: None) -> float:
    """The objective's loss on some states, and what is asked of it there."""

    def loss(asked):
        found = run.objective.loss(asked, *run.objective.drawn(torch.Generator().manual_seed(5), COUNT))
        also(found)
        return float(found.detach())

    return asked_by(run, loss)


@pytest.mark.compat(feature="training")
def test_the_gradient_is_the_losses(trained):
    parameters = list(trained.factors.parameters.values())
    gradients: list[torch.Tensor] = []
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        at_a_fixed_draw(trained, lambda loss: gradients.extend(torch.autograd.grad(loss, parameters)))
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    start = [parameter.data.clone() for parameter in parameters]

    def at(shift: float) -> float:
        for parameter, value, gradient in zip(parameters, start, gradients, strict=True):
            parameter.data = value + shift * gradient / length
        return at_a_fixed_draw(trained)

    slope = (at(SMALL) - at(-SMALL)) / (2 * SMALL)
    at(0.0)
    assert slope == pytest.approx(float(length), rel=0.02)


@pytest.mark.compat(feature="training")
def test_the_slider_acts_in_every_loader(case, trained):
    tensors, layers = trained.factors.tensors(), trained.factors.layers
    assert fit(case.family.model, None, tensors, "slider").matched == len(layers)
    assert sum(bool(value.any()) for name, value in tensors.items() if name.endswith("up.weight")) > len(layers) / 2
    acts = case.generate(load(case.family.model, tensors, STRENGTH))
    assert tiny_models.relative(acts, case.plain) > VISIBLE
    assert torch.equal(case.generate(with_slider(case.family.model, tensors, STRENGTH)), acts)


def test_afterwards_the_model_is_what_it_was(case):
    assert torch.equal(case.generate(case.family.model), case.plain)
    assert tiny_models.state_of(case.family.model) == case.state
