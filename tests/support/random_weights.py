"""Weights for networks of ComfyUI's own classes, whose layers skip their initialisation."""

from __future__ import annotations

import math

import torch

# How the networks' last layers begin.
LAST = ("out.2.", "final_layer.linear.", "proj_out.", "head.head.")


def random_weights(
    network: torch.nn.Module, dtype: torch.dtype = torch.float32, last: float = 1.0, seed: int = 0
) -> dict[str, torch.Tensor]:
    """A state dict with which a signal keeps about its size from layer to layer, up to the last one, which is scaled by
    `last`. The network may be on the meta device.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, parameter in network.state_dict().items():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            values = values / math.sqrt(parameter[0].numel())
        else:
            values = 1 + 0.1 * values if name.endswith(("weight", "scale")) else 0.1 * values
        weights[name] = (last * values if name.startswith(LAST) else values).to(dtype)
    return weights


def randomise(network: torch.nn.Module, seed: int = 0, last: float = 1.0) -> None:
    """Put such weights into a network."""
    network.load_state_dict(random_weights(network, last=last, seed=seed))
