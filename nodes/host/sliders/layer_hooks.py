"""Sliders as forward hooks on the model's layers: for strengths that differ within a batch or between conditionings.

A hook adds the sliders' share to its layer's output. The weights stay as they are, so it also works on quantised and
offloaded ones, and on the clones of several GPUs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy.model_prefetch
import comfy.utils
import torch
from comfy.weight_adapter.bypass import BypassForwardHook, get_module_type_info
from torch import Tensor

from ....guidance_core import LowRank, concatenate, fuse_middle, low_rank_sum
from ....guidance_core.sliders import CONVOLUTIONS
from ..lora.adapters import LoRA, no_additive_form, parts, whole_difference
from ..lora.fused_layers import called_as_layers
from ..lora.shapes import INSTEAD, without_weight
from ..run.travelling import of_entries


@dataclass
class Strengths:
    """What a model's hooks multiply with at the current evaluation: [N, K], or [1, K] if all N entries agree.

    None switches the hooks off.
    """

    value: Tensor | None = None


@dataclass
class _Layer:
    """What the sliders do to one layer: (slider's index, its patch, offset, function of the rows)."""

    weight: list[tuple[int, Any, Any, Any]] = field(default_factory=list)
    bias: list[tuple[int, Any, Any, Any]] = field(default_factory=list)


def why_not(patches: dict[Any, Any], network: torch.nn.Module) -> str | None:
    """What of a slider has no additive form, or None."""
    for target, patch in patches.items():
        key, offset, _ = _target(target)
        kind = no_additive_form(patch)
        name, _, parameter = key.rpartition(".")
        module = comfy.utils.get_attr(network, name)
        info = get_module_type_info(module)
        linear = "linear" in type(module).__name__.lower() or without_weight(module)
        if kind is None and not (info["is_conv"] or linear):
            kind = f"weights of a {type(module).__name__}"
        if kind is None and parameter not in ("weight", "bias"):
            kind = f"a parameter {parameter!r}"
        if kind is None and info["groups"] != 1:
            kind = "a convolution in groups"
        if kind is None and offset is not None and offset[0] != 0:
            kind = "a part of a layer's inputs"
        if kind is not None:
            return f"{kind} ({key})"
    return None


def _target(target: Any) -> tuple[str, Any, Any]:
    """(weight, offset, function) of a key of the host's patches."""
    if isinstance(target, str):
        return target, None, None
    return target[0], target[1], target[2] if len(target) > 2 else None


class LayerHooks:
    """The hooks of one run: `attach` them once, `remove` them always."""

    def __init__(self) -> None:
        self.strengths: dict[int, Strengths] = {}
        self._handles: list[Any] = []
        self._uncalled: dict[int, dict[str, str]] = {}  # by network: layers without weights, and their classes
        self._around = contextlib.ExitStack()

    def attach(self, sliders: Sequence[dict[Any, Any]], networks: Sequence[torch.nn.Module]) -> None:
        """sliders: for each, its patches, all of which have an additive form (`why_not`); networks: the model and its
        clones on other devices. `strengths` has one entry for each of them, by its id."""
        layers: dict[str, _Layer] = {}
        for index, patches in enumerate(sliders):
            for target, patch in patches.items():
                key, offset, function = _target(target)
                name, _, parameter = key.rpartition(".")
                layer = layers.setdefault(name, _Layer())
                (layer.weight if parameter == "weight" else layer.bias).append((index, patch, offset, function))
        hooked = set()
        for network in networks:
            strengths = self.strengths[id(network)] = Strengths()
            uncalled = self._uncalled[id(network)] = {}
            for name, layer in layers.items():
                module = comfy.utils.get_attr(network, name)
                self._handles.append(module.register_forward_hook(_Hook(name, layer, strengths, uncalled)))
                hooked.add(module)
                if without_weight(module):
                    uncalled[name] = type(module).__name__
        self._around.enter_context(called_as_layers(hooked))

    def check_called(self, network: torch.nn.Module) -> None:
        """After a network's first evaluation. Raises ValueError if it has run layers without weights in a way of its
        own, such as several in one kernel, where a hook adds nothing."""
        uncalled = self._uncalled.pop(id(network), {})
        if uncalled:
            name, kind = next(iter(uncalled.items()))
            raise ValueError(
                f"{len(uncalled)} of the slider's layers, such as {name}, are of class {kind}: they have no weight, "
                f"and this model runs them without calling them, so that nothing can be added: {INSTEAD}"
            )

    def remove(self) -> None:
        self._around.close()
        while self._handles:
            self._handles.pop().remove()


class _Hook:
    """One layer's share: the plain LoRAs as one low-rank product, other adapters by the host's own rule."""

    def __init__(self, name: str, layer: _Layer, strengths: Strengths, uncalled: dict[str, str]):
        self.name, self.layer, self.strengths, self.uncalled = name, layer, strengths, uncalled
        self._prepared: _Prepared | None = None

    def __call__(self, module: torch.nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        self.uncalled.pop(self.name, None)
        strengths = self.strengths.value
        if strengths is None:
            return None
        x = args[0]
        if self._prepared is None:  # in the run's own device and precision, once a run
            with _outside_memory_graph():
                self._prepared = _Prepared(self.layer, module, x, output)
        return output + self._prepared.share(x, output, of_entries(strengths, len(x), self.name)).to(output.dtype)


def _outside_memory_graph() -> contextlib.AbstractContextManager:
    """Around tensors that are made in a forward pass and stay: hosts that run a network's blocks inside a graph of
    their memory take back at a block's end what was made in it."""
    return getattr(comfy.model_prefetch, "pause_malloc_graph", contextlib.nullcontext)()


class _Prepared:
    """A layer's slider weights on one device."""

    def __init__(self, layer: _Layer, module: torch.nn.Module, like: Tensor, output: Tensor):
        info = get_module_type_info(module)
        self.channel = 1 if info["is_conv"] else output.ndim - 1
        self.convolution = {k: info[k] for k in ("stride", "padding", "dilation")} if info["is_conv"] else {}
        self.kernel = info["kernel_size"] if info["is_conv"] else ()
        self.module, self.like = module, like.new_empty(0)  # the input itself would stay in memory for the run
        pieces, columns = [], []
        self.low_rank: tuple[Tensor, Tensor, Tensor] | None = None
        self.others: list[tuple[int, Any, Any, Any]] = []
        for index, patch, offset, function in layer.weight:
            if isinstance(patch, tuple):
                self.others.append((index, self._moved(whole_difference(patch)), offset, function))
            elif isinstance(found := parts(patch), LoRA):
                part = self._low_rank(found, offset, function)
                pieces.append(part)
                columns += [index] * len(part.down)
            else:
                self.others.append((index, self._adapter(patch), offset, function))
        if pieces:
            down, up = concatenate(pieces, output.shape[self.channel])
            self.low_rank = down, up, torch.tensor(columns, device=like.device)
        self.bias = [(index, self._bias(patch, function), offset) for index, patch, offset, function in layer.bias]

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.like)

    def _bias(self, patch: Any, function: Any) -> Tensor:
        difference = self._moved(whole_difference(patch))
        return difference if function is None else function(difference)

    def _low_rank(self, found: LoRA, offset: Any, function: Any) -> LowRank:
        up, down = self._moved(found.up.flatten(1)), self._moved(found.down)
        factor = 1.0 if found.alpha is None else found.alpha / len(down)
        if found.middle is not None:
            down = fuse_middle(down, self._moved(found.middle))
        down = down.reshape(len(down), -1, *self.kernel)
        return LowRank(up if function is None else function(up), down, factor, 0 if offset is None else offset[1])

    def _adapter(self, patch: Any) -> Any:
        weights = tuple(self._moved(w) if isinstance(w, Tensor) else w for w in patch.weights)
        adapter = type(patch)(patch.loaded_keys, weights)
        BypassForwardHook(self.module, adapter)  # tells the adapter what kind of layer it is on
        return adapter

    def share(self, x: Tensor, output: Tensor, strengths: Tensor) -> Tensor:
        """What all sliders add to the layer's output for the input x; strengths: [N, K] or [1, K]."""
        strengths = strengths.to(x.dtype)
        shares = []
        if self.low_rank is not None:
            down, up, columns = self.low_rank
            shares.append(low_rank_sum(x, down, up, strengths[:, columns], **self.convolution))
        for index, patch, offset, function in self.others:
            own = output if offset is None else output.narrow(self.channel, *offset[1:])
            change = self._change(patch, x, own)
            if function is not None:
                change = function(change.movedim(self.channel, 0)).movedim(0, self.channel)
            shares.append(self._placed(change * _column(strengths, index, output), output, offset))
        for index, patch, offset in self.bias:
            shape = [1] * output.ndim
            shape[self.channel] = -1
            shares.append(self._placed(patch.reshape(shape) * _column(strengths, index, output), output, offset))
        return sum(shares[1:], shares[0])

    def _change(self, patch: Any, x: Tensor, output: Tensor) -> Tensor:
        if not isinstance(patch, Tensor):
            return patch.h(x, output)
        if not self.kernel:
            return torch.nn.functional.linear(x, patch)
        return CONVOLUTIONS[len(self.kernel) - 1](x, patch, **self.convolution)

    def _placed(self, change: Tensor, output: Tensor, offset: Any) -> Tensor:
        """A change of some of the layer's outputs, as one of all of them."""
        if offset is None:
            return change
        shape = list(change.shape)
        shape[self.channel] = output.shape[self.channel]
        whole = change.new_zeros(shape)
        whole.narrow(self.channel, *offset[1:]).copy_(change)
        return whole


def _column(strengths: Tensor, index: int, output: Tensor) -> Tensor:
    return strengths[:, index].reshape(-1, *[1] * (output.ndim - 1))
