"""Weights for networks of ComfyUI's own classes, whose layers skip their initialisation."""

from __future__ import annotations

import math

import torch


def randomise(network: torch.nn.Module, seed: int = 0) -> None:
    """Random weights with which a signal keeps about its size from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            values = values / math.sqrt(parameter[0].numel())
        else:
            values = 1 + 0.1 * values if name.endswith(("weight", "scale")) else 0.1 * values
        parameter.data.copy_(values)
