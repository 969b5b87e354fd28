"""A model's own weights while something is trained on it: frozen, and passed through by gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

PLAIN = (Tensor, nn.Parameter)


@contextlib.contextmanager
def differentiable(network: nn.Module) -> Iterator[None]:
    """While this is open gradients pass through a network that ComfyUI loaded; its weights get none.

    Packed weights, which are of classes of their own, stay as they are: what a layer unpacks is made anew at each use.

    ComfyUI loads models in inference mode, and autograd refuses to keep such tensors for its way back. In their place
    the network has tensors of the same memory that are none: nothing is copied, whatever the precision. Afterwards,
    also after an error, it has its own again. To be opened outside inference mode.
    """
    replaced: list[tuple[nn.Module, str, Tensor]] = []
    try:
        for module in network.modules():
            for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                if type(value) in PLAIN and (value.is_inference() or value.requires_grad):
                    replaced.append((module, name, value))
                    setattr(module, name, _same_memory(value))
        yield
    finally:
        for module, name, value in replaced:
            setattr(module, name, value)


def _same_memory(value: Tensor) -> Tensor:
    plain = torch.empty(0, dtype=value.dtype, device=value.device)
    plain.set_(value.untyped_storage(), value.storage_offset(), value.shape, value.stride())
    return nn.Parameter(plain, requires_grad=False) if isinstance(value, nn.Parameter) else plain
