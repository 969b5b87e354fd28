"""Weights that lie on the device for one use only: the way back has to have them again."""

from __future__ import annotations

import contextlib
from typing import Any

import comfy.ops
import numpy as np
import pytest
import tiny_models
import torch
from offloaded import little_memory
from semantic_steering.nodes.host.training import fetched
from semantic_steering.nodes.host.training.run import Training
from training_runs import training

BATCH = 2


class Buffer:
    """One place for all weights, as the host's for those that are not on the device: each layer overwrites what the
    one before it had there, and autograd is told of nothing."""

    def __init__(self) -> None:
        self.memory = np.empty(1 << 22, dtype=np.float32)

    def cast(self, layer: Any, input: Any = None, *args: Any, offloadable: bool = False, **kwargs: Any) -> Any:
        place, tensors = 0, []
        for value in (layer.weight, layer.bias):
            if value is None:
                tensors.append(None)
                continue
            there = torch.from_numpy(self.memory[place : place + value.numel()]).view(value.shape)
            there.copy_(value)
            tensors.append(there)
            place += value.numel()
        return (*tensors, None) if offloadable else tuple(tensors)


@pytest.fixture
def buffered(monkeypatch):
    """A MODEL whose layers bring their weights into one buffer, and that is not wholly loaded."""
    model = tiny_models.unet_model()
    monkeypatch.setattr(comfy.ops, "cast_bias_weight", Buffer().cast)
    for module in model.model.modules():
        if isinstance(module, comfy.ops.CastWeightBiasOp):
            monkeypatch.setattr(module, "comfy_cast_weights", True, raising=False)
    monkeypatch.setattr(model, "loaded_size", lambda: 0)
    return model


def losses(run: Training, steps: int = 4) -> list[float]:
    run.run(steps)
    return run.losses


@pytest.mark.parametrize("small", [False, True])
def test_training_with_weights_in_one_buffer_is_that_with_all_of_them_at_hand(buffered, small):
    run = training(buffered)
    run.small = small
    assert losses(run) == pytest.approx(losses(training(tiny_models.unet_model())), rel=1e-4)


def test_without_it_the_gradient_would_be_another(buffered, monkeypatch):
    """So that the test above can fail."""
    monkeypatch.setattr(fetched, "replaced_forwards", lambda *_: contextlib.nullcontext())
    right = losses(training(tiny_models.unet_model()))
    try:
        found = losses(training(buffered))
    except RuntimeError:
        return
    assert found != pytest.approx(right, rel=1e-3)


def test_with_little_memory_a_training_is_the_same(monkeypatch):
    """The host's own partial loading."""
    whole = losses(training(tiny_models.unet_model()))
    with little_memory(200_000):
        model = tiny_models.unet_model()
        run = training(model)
        found = losses(run)
        assert model.loaded_size() < model.model_size()
    assert found == pytest.approx(whole, rel=1e-4)


def test_layers_have_their_own_forward_again(buffered):
    before = {module: module.__dict__.get("forward") for module in buffered.model.modules()}
    losses(training(buffered), 1)
    assert {module: module.__dict__.get("forward") for module in buffered.model.modules()} == before
