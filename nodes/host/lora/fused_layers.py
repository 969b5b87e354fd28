"""Layers that the host runs without calling them, which forward hooks would miss."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import comfy.ops
from torch import Tensor


@contextlib.contextmanager
def called_as_layers(layers: Collection[Any]) -> Iterator[None]:
    """While this is open the host calls these layers, of whose INT8 kind it otherwise runs the kernel with the
    activation before it folded in (feed-forwards of Wan, LTX and MiniMax). Other layers run as ever.

    The results differ by rounding: the activation is then quantised by the layer instead of inside the kernel.
    """
    fused = getattr(comfy.ops, "linear_input_act", None)
    if fused is None:  # hosts from before it
        yield
        return

    def linear_input_act(linear: Any, x: Tensor, input_act: str) -> Tensor:
        if linear in layers:
            return linear(comfy.ops.INPUT_ACT_EAGER[input_act](x))
        return fused(linear, x, input_act)

    comfy.ops.linear_input_act = linear_input_act
    try:
        yield
    finally:
        comfy.ops.linear_input_act = fused
