"""Layers that are run without being called, which forward hooks would miss."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator
from typing import Any

import comfy.ops
import torch
from torch import Tensor


@contextlib.contextmanager
def called_as_layers(layers: Collection[Any]) -> Iterator[None]:
    """While this is open these layers are called: the network is not run as it was compiled before (torch does not look
    for new hooks), and the host calls those of whose INT8 kind it otherwise runs the kernel with the activation before
    it folded in (feed-forwards of Wan, LTX and MiniMax). Other layers run as ever.

    The results of these differ by rounding: the activation is then quantised by the layer instead of inside the kernel.
    """
    with contextlib.ExitStack() as around:
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):  # torch 2.6
            around.enter_context(torch.compiler.set_stance("force_eager"))
        around.enter_context(_not_folded_in(layers))
        yield


@contextlib.contextmanager
def _not_folded_in(layers: Collection[Any]) -> Iterator[None]:
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
