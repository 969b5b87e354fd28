"""Sliders where a model is more than one network in one place: clones on other devices, offloaded weights.

The host's dynamic memory management needs a GPU and a server: tests/server/test_sliders_over_http.py.
"""

from __future__ import annotations

import family_models
import lora_states as states
import pytest
import tiny_models
import torch
from offloaded import little_memory
from slider_runs import load, sweep

CLOSE = 1e-4
STATE = states.unet(1, lambda name: states.ldm(name) and ("attn" in name or "in_layers" in name))


def with_a_second_device(patcher):
    """The host's multi-GPU arrangement, whose second device is the CPU under its other name."""
    other = patcher.clone(model_override=(family_models.sd().model.model, ({}, {}, {}, set())))
    other.load_device = torch.device("cpu", 0)
    other.is_multigpu_base_clone = True
    model = patcher.clone()
    model.set_additional_models("multigpu", [other])
    return model, other


def counted(network):
    calls = []
    network.diffusion_model.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.compat(table="combinations", row="clones on several devices (the CPU twice)", feature="slider")
def test_clones_on_other_devices_have_the_sliders_too():
    family = family_models.sd()
    model, other = with_a_second_device(family.model)
    start = family.noise(2)
    calls = counted(other.model), counted(family.model.model)
    found = family.sample(load(model, STATE, 0.5, 0.3), start)
    assert len(calls[0]) == len(calls[1]) == 4  # positive here, negative there
    expected = family.sample(load(family.model, STATE, 0.5, 0.3), start)
    assert tiny_models.relative(found, expected) < CLOSE
    assert tiny_models.relative(found, family.sample(family.model, start)) > 10 * CLOSE
    for network in (other.model, family.model.model):
        assert not any(m._forward_hooks for m in network.modules() if m is not network.diffusion_model)


@pytest.mark.compat(table="combinations", row="offloaded weights (little memory)", feature="slider")
@pytest.mark.parametrize("way", ["switched", "hooked"])
def test_weights_that_stay_offloaded(way):
    """As with little memory: most layers are moved and patched at each use."""
    family = family_models.sd()
    start = family.noise(2)
    switched = load(family.model, STATE, 0.5, 0.3)
    model = switched if way == "switched" else sweep(family.model, STATE, "0.5, 0.5", 0.3)
    expected, bare = family.sample(model, start), family.sample(family.model, start)
    with little_memory(300_000):  # bytes, of 4 MB
        found = family.sample(model, start)
        assert family.model.model.model_lowvram
        again = family.sample(family.model, start)
    assert tiny_models.relative(found, expected) < CLOSE
    assert tiny_models.relative(found, bare) > 10 * CLOSE
    assert tiny_models.relative(again, bare) < CLOSE
    assert torch.equal(family.sample(family.model, start), bare)
