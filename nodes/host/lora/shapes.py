"""The weights of a model's layers as the layers use them, however they are packed: for matching, hooks and training.

`state_dict()` gives what is stored, which is another size for nvfp4 and GGUF, and nothing at all of layers that keep
their numbers under other names.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

# What to load instead of a model that cannot be changed.
INSTEAD = "load this model in another form, such as GGUF, fp8, int8 or nvfp4"


def features(module: torch.nn.Module) -> tuple[int, int] | None:
    """(out, in) of a linear layer of any class, as it says itself; None for other layers."""
    found = getattr(module, "out_features", None), getattr(module, "in_features", None)
    return found if all(isinstance(n, int) for n in found) else None  # type: ignore[return-value]


def without_weight(module: torch.nn.Module) -> bool:
    """True for a linear layer that has no `weight` which the host could patch, such as Nunchaku's."""
    return features(module) is not None and not isinstance(getattr(module, "weight", None), Tensor)


def logical_shapes(
    network: torch.nn.Module, backup: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, tuple[int, ...]]:
    """{name: shape} of all parameters and buffers, and of the `weight` of linear layers that have none of this name.

    backup: the host's, of the weights as they are without the patches of a model that happens to be loaded.
    """
    shapes = {}
    for name, module in network.named_modules(remove_duplicate=False):
        prefix = f"{name}." if name else ""
        for own, tensor in (*module.named_parameters("", False), *module.named_buffers("", False)):
            shapes[prefix + own] = _shape(tensor, features(module) if own == "weight" else None)
        if without_weight(module):
            shapes[f"{prefix}weight"] = features(module)
    for name, kept in backup.items():
        shapes[name] = _shape(kept.weight, features(_layer(network, name)) if name.endswith(".weight") else None)
    return shapes


def _shape(tensor: Tensor, of_layer: tuple[int, int] | None) -> tuple[int, ...]:
    """The host's quantised tensors have the shape that they stand for, GGUF's name it; others are known by their layer
    (bitsandbytes keeps a column of bytes)."""
    if hasattr(tensor, "tensor_shape"):
        return tuple(tensor.tensor_shape)  # type: ignore[attr-defined]
    return of_layer if of_layer is not None and not tensor.is_floating_point() else tuple(tensor.shape)


def with_all_names(network: torch.nn.Module, shapes: Iterable[str]) -> torch.nn.Module:
    """A view of a network whose `state_dict()` has the names of its `logical_shapes` too: what the host's tables of
    LoRA names are made from. No more than names can be read from it."""
    view: Any = copy.copy(network)
    names = dict.fromkeys([*network.state_dict(), *shapes])
    view.state_dict = lambda: names
    return view


def class_without_weight(network: torch.nn.Module, targets: Iterable[Any] | None = None) -> str | None:
    """The class of the first layer without a weight in a network, or among the targets of the host's patches; None if
    all have theirs."""
    modules = network.modules() if targets is None else (_layer(network, target) for target in targets)
    return next((type(module).__name__ for module in modules if without_weight(module)), None)


def _layer(network: torch.nn.Module, target: Any) -> torch.nn.Module:
    key = target if isinstance(target, str) else target[0]
    return network.get_submodule(key.rpartition(".")[0])


def foreign(network: torch.nn.Module) -> str | None:
    """The class of a diffusion model that is another pack's, or None."""
    kind = type(getattr(network, "diffusion_model", network))
    return None if kind.__module__.startswith("comfy.") else kind.__name__
