"""Training on packed weights: the same as on the plain weights that they stand for, or an error in words."""

from __future__ import annotations

import pytest
import quantised
import tiny_models
import torch
from training_runs import training

# The host computes with rounded activations too where weights are packed, for which a training has no gradient: there
# it goes on with plain ones.
CLOSE = 0.05


def steps(family, count: int = 3):
    conds = {"target": family.positive, "plus 0": family.target, "minus 0": family.negative}
    run = training(family.model, conds, rate=0.01, layers="all linear", shape=family.shape)
    run.run(count)
    return run


@pytest.mark.compat(table="quantised models", feature="training")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, id=kind, marks=pytest.mark.compat(row=kind)) for kind in quantised.FORMATS]
)
def test_a_step_on_packed_weights_is_that_on_plain_ones(kind, record_property):
    with torch.inference_mode():  # as nodes load
        pair = quantised.flux(kind)
    if kind == quantised.NO_WEIGHT:
        with pytest.raises(ValueError, match="SVDQW4A4Linear, which has no weight that gradients could pass through"):
            steps(pair.packed)
        record_property("no", "a training is refused: such layers have no weight that gradients could pass through")
        return
    if kind in quantised.GGUF:
        with pytest.raises(ValueError, match=r"is packed as GGMLTensor.*load this model in another form, such as fp8"):
            steps(pair.packed)
        record_property("no", "a training is refused: GGUF's layers have no way back; load the model in another form")
        return
    before = tiny_models.state_of(pair.packed.model)
    found, expected = steps(pair.packed), steps(pair.plain)
    assert found.losses == pytest.approx(expected.losses, rel=CLOSE)
    assert len(found.factors.layers) == len(expected.factors.layers)
    assert tiny_models.state_of(pair.packed.model) == before
