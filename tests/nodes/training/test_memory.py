"""How a step is computed where there is little memory."""

from __future__ import annotations

import comfy.model_management
import pytest
import tiny_models
from semantic_steering.nodes.host.training.factors import Factors
from semantic_steering.nodes.host.training.layers import chosen
from semantic_steering.nodes.host.training.memory import IN_ONE_GO, IN_PARTS, multiples, planned
from training_runs import SHAPE


@pytest.fixture
def model():
    return tiny_models.unet_model()


def plan(model, free, monkeypatch, batch=4):
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *_: free + model.model_size())
    monkeypatch.setattr(comfy.model_management, "current_loaded_models", [])
    return planned(model, SHAPE, batch, Factors(chosen(model, "no cross-attention", 2), 2, 1.0, 0))


def test_the_fastest_way_that_fits_is_taken(model, monkeypatch):
    factors = Factors(chosen(model, "no cross-attention", 2), 2, 1.0, 0)
    own = 16 * sum(parameter.numel() for parameter in factors.parameters.values())
    pair = model.memory_required([2, *SHAPE])
    found = []
    kept, recomputed = multiples()
    for needed in (4 * kept, 2 * kept, kept, 4 * recomputed, 2 * recomputed, recomputed):
        made = plan(model, pair * needed * 1.001 + own, monkeypatch)
        found.append((made.at_once, made.small))
        assert made.needed <= made.free
    # Four pairs with blocks recomputed need less than one with all kept only where the second is costlier.
    assert found[:3] == [(4, False), (2, False), (1, False)]
    assert found[-2:] == [(2, True), (1, True)]


def test_where_nothing_fits_it_is_said_before_the_start(model, monkeypatch):
    with pytest.raises(ValueError, match=r"needs about \d.* GB beside its weights.*lower width and height"):
        plan(model, 0.0, monkeypatch)


def test_the_multiple_is_that_of_the_hosts_own_rule(monkeypatch):
    monkeypatch.setattr(comfy.model_management, "xformers_enabled", lambda: False)
    for flash, expected in ((True, IN_ONE_GO), (False, IN_PARTS)):
        monkeypatch.setattr(comfy.model_management, "pytorch_attention_flash_attention", lambda flash=flash: flash)
        assert multiples() == expected
