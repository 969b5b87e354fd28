"""Which models can read each other's states: those of one latent format, type of prediction and largest level."""

from __future__ import annotations

import comfy.latent_formats
import pytest
import tiny_models
from comfy.model_base import ModelType
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete, ModelSamplingSD3
from semantic_steering.nodes.host.run.identity import ModelIdentity


def model(model_type=ModelType.EPS, layout=None, sigma_max=None):
    """A MODEL, one property of which may be another than usual."""
    patcher = tiny_models.stub_model(model_type)
    if layout is not None:
        patcher.model.latent_format = layout
    if sigma_max is not None:
        patcher.model.model_sampling.sigmas[-1] = sigma_max
    return patcher


LARGEST = float(model().get_model_object("model_sampling").sigma_max)
OTHERS = {
    "format": lambda: model(layout=comfy.latent_formats.SDXL()),
    "type": lambda: model(ModelType.V_PREDICTION),  # of the same levels
    "largest level": lambda: model(sigma_max=1.01 * LARGEST),
}


def check(first, second) -> None:
    ModelIdentity.of(first).check(second, "the states were", "Connect the first one")


@pytest.mark.parametrize("other", OTHERS)
def test_one_property_alone_makes_another_model(other):
    for pair in ((model(), OTHERS[other]()), (OTHERS[other](), model())):
        with pytest.raises(ValueError, match=r"the states were made by another model: .*Connect the first one"):
            check(*pair)


def test_a_largest_level_that_differs_by_rounding_is_the_same():
    check(model(), model(sigma_max=LARGEST * (1 + 1e-5)))


def test_the_hosts_sampling_nodes_change_the_type_only_where_they_say_so():
    """They make a class of their own around the type."""
    epsilon, velocity = (ModelSamplingDiscrete().patch(model(), name, False)[0] for name in ("eps", "v_prediction"))
    check(model(), epsilon)
    check(model(ModelType.V_PREDICTION), velocity)
    with pytest.raises(ValueError, match="made by another model"):
        check(epsilon, velocity)


def test_a_shift_moves_the_schedule_and_not_the_states():
    flow = model(ModelType.FLOW)
    shifted = ModelSamplingSD3().patch(flow, 3.0)[0]
    check(flow, shifted)
    assert ModelIdentity.of(shifted).shift == 3.0 != ModelIdentity.of(flow).shift
