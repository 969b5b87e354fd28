"""One layer under a slider: its share in whatever precision the layer takes and gives."""

from __future__ import annotations

import contextlib
import weakref

import comfy.model_prefetch
import pytest
import tiny_models
import torch
from comfy.weight_adapter.lora import LoRAAdapter
from semantic_steering.nodes.host.sliders.layer_hooks import LayerHooks
from torch.utils._python_dispatch import TorchDispatchMode

ROWS, COLUMNS, RANK = 5, 6, 2
UP, DOWN = tiny_models.noise(ROWS, RANK, seed=1), tiny_models.noise(RANK, COLUMNS, seed=2)
WHOLE, SHIFT = tiny_models.noise(ROWS, COLUMNS, seed=3), tiny_models.noise(ROWS, seed=4)
STRENGTHS = torch.tensor([[0.5], [-2.0]])
PRECISIONS = [torch.float32, torch.float16, torch.bfloat16]
LOW_RANK = LoRAAdapter(set(), (UP, DOWN, 2.0 * RANK, None, None, None))
SLIDERS = {
    "low rank": ({"layer.weight": LOW_RANK}, lambda x: 2.0 * x @ DOWN.T @ UP.T),
    "whole difference": ({"layer.weight": ("diff", (WHOLE,))}, lambda x: x @ WHOLE.T),
    "bias": ({"layer.bias": ("diff", (SHIFT,))}, lambda x: SHIFT.expand(len(x), ROWS)),
}


class Layer(torch.nn.Linear):
    """Gives another precision than it takes, as layers around quantised weights do."""

    def __init__(self, gives: torch.dtype):
        super().__init__(COLUMNS, ROWS)
        self.gives = gives

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.float()).to(self.gives)


@pytest.mark.parametrize("gives", PRECISIONS, ids=str)
@pytest.mark.parametrize("takes", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", SLIDERS)
def test_a_layer_gives_the_precision_it_gives_without_a_slider(name, takes, gives):
    patches, change = SLIDERS[name]
    network, x = torch.nn.Module(), tiny_models.noise(2, COLUMNS, seed=5).to(takes)
    network.layer = Layer(gives)
    plain, hooks = network.layer(x), LayerHooks()
    hooks.attach([patches], [network])
    hooks.strengths[id(network)].value = STRENGTHS
    found = network.layer(x)
    hooks.remove()
    assert found.dtype is gives
    expected = STRENGTHS * change(x.float())
    assert tiny_models.relative(found.float() - plain.float(), expected) < 0.02
    assert torch.equal(network.layer(x), plain)


@pytest.mark.parametrize("name", SLIDERS)
def test_nothing_of_an_evaluation_is_kept(name):
    """A layer's input, of each layer, is more than the model at the size of real pictures."""
    network, hooks = torch.nn.Module(), LayerHooks()
    network.layer = Layer(torch.float32)
    hooks.attach([SLIDERS[name][0]], [network])
    try:
        hooks.strengths[id(network)].value = STRENGTHS
        x = tiny_models.noise(2, COLUMNS, seed=5)
        with torch.no_grad():
            kept = [weakref.ref(x), weakref.ref(network.layer(x))]
        del x
        assert [ref() for ref in kept] == [None, None]
    finally:
        hooks.remove()


class Made(TorchDispatchMode):
    """Each tensor that is made while this is open, and whether the host's memory graph was paused then."""

    def __init__(self):
        super().__init__()
        self.paused, self.tensors = False, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        self.tensors.append((weakref.ref(found), self.paused))
        return found

    @contextlib.contextmanager
    def pause(self):
        self.paused = True
        yield
        self.paused = False


@pytest.mark.parametrize("name", SLIDERS)
def test_what_stays_for_the_run_is_made_outside_of_the_hosts_memory_graph(name, monkeypatch):
    """Newer hosts have one on a GPU, around each block of a network."""
    made, hooks, network = Made(), LayerHooks(), torch.nn.Module()
    monkeypatch.setattr(comfy.model_prefetch, "pause_malloc_graph", made.pause, raising=False)
    network.layer = Layer(torch.float16)
    hooks.attach([SLIDERS[name][0]], [network])
    x = tiny_models.noise(2, COLUMNS, seed=5).half()
    try:
        hooks.strengths[id(network)].value = STRENGTHS
        with made, torch.no_grad():
            network.layer(x)
            left = [paused for tensor, paused in made.tensors if tensor() is not None]
            made.tensors.clear()
            network.layer(x)
        assert left and all(left)
        assert made.tensors and not any(paused for _, paused in made.tensors), "the layer's work itself is in it"
    finally:
        hooks.remove()
