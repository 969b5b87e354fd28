"""Gradient checkpointing: what a block keeps for the way back is made again there. Less memory, one more pass."""

from __future__ import annotations

import contextlib
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .factors import Factors
from .forwards import replaced_forwards

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def recomputed(network: nn.Module, factors: Factors) -> contextlib.AbstractContextManager[None]:
    """While this is open the blocks of a network keep their inputs alone. Gradients are the same."""
    return replaced_forwards(blocks(network), lambda forward: _kept_small(forward, factors))


def blocks(network: nn.Module) -> list[nn.Module]:
    """The highest modules below the network that are called themselves."""
    found = []
    for child in network.children():
        found += blocks(child) if isinstance(child, CONTAINERS) else [child]
    return found


def _kept_small(forward: Any, factors: Factors) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        strengths = factors.strengths
        # The host writes on in what it hands to every block, such as the block's number.
        args, kwargs = _own_dicts(args), dict(zip(kwargs, _own_dicts(kwargs.values()), strict=True))

        def again(*args: Any, **kwargs: Any) -> Any:
            factors.strengths = strengths
            # Flux and others write into their input, which is needed a second time as it was.
            return forward(*_clones(args), **dict(zip(kwargs, _clones(kwargs.values()), strict=True)))

        return checkpoint(again, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return call


def _own_dicts(values: Any) -> tuple:
    return tuple(dict(value) if isinstance(value, dict) else value for value in values)


def _clones(values: Any) -> tuple:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in values)
