"""The host's weight adapters by the names of their parts: the one place that knows what stands where in their tuples.

A patch of a weight is an adapter (LoRA, LoHa, ...) or a tuple whose first entry says what kind it is, such as a whole
difference ("diff").
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor


class LoRA(NamedTuple):
    """up [out, r] and down [r, in], or those of a convolution, with a middle [r, r, ...]; reshape: the layer's new
    size."""

    up: Tensor
    down: Tensor
    alpha: float | None
    middle: Tensor | None
    dora_scale: Tensor | None
    reshape: list[int] | None


class LoHa(NamedTuple):
    """(a·b) ⊙ (a'·b'), each with a core (t) where it is a convolution's."""

    w1_a: Tensor
    w1_b: Tensor
    alpha: float | None
    w2_a: Tensor
    w2_b: Tensor
    t1: Tensor | None
    t2: Tensor | None
    dora_scale: Tensor | None


class LoKr(NamedTuple):
    """w1 ⊗ w2, each whole or a product of a and b."""

    w1: Tensor | None
    w2: Tensor | None
    alpha: float | None
    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    t2: Tensor | None
    dora_scale: Tensor | None


# The kinds that add something to a layer's output, whatever its weight; by the host's names.
ADDITIVE = {"lora": LoRA, "loha": LoHa, "lokr": LoKr}


def parts(adapter: Any) -> LoRA | LoHa | LoKr:
    """The parts of an adapter of one of the ADDITIVE kinds."""
    return ADDITIVE[adapter.name](*adapter.weights)


def whole_difference(patch: tuple) -> Tensor:
    """The tensor of a patch ("diff", (tensor, ...))."""
    return patch[1][0]


def no_additive_form(patch: Any) -> str | None:
    """What kind of weights a patch is that cannot be added to a layer's output; None where it can."""
    if isinstance(patch, tuple):
        return None if patch[0] == "diff" else f"{patch[0]} weights"
    if patch.name not in ADDITIVE:
        return f"{patch.name.upper()} weights"
    found = parts(patch)
    if found.dora_scale is not None:
        return "DoRA weights"
    if isinstance(found, LoRA) and found.reshape is not None:
        return "weights that resize a layer"
    return None


def shape_of(patch: Any) -> tuple[int, int] | None:
    """(out, in · kernel) of the difference that a patch makes; None where the host's own check has to do."""
    if isinstance(patch, tuple):
        tensor = whole_difference(patch)
        return (tensor.shape[0], math.prod(tensor.shape[1:])) if tensor.ndim else None
    if patch.name not in ADDITIVE:
        return None
    found = parts(patch)
    if isinstance(found, LoRA):
        return _lora_shape(found)
    return _loha_shape(found) if isinstance(found, LoHa) else _lokr_shape(found)


def _lora_shape(found: LoRA) -> tuple[int, int] | None:
    up, down, middle = found.up, found.down, found.middle
    if found.reshape is not None:
        return None
    if up.flatten(1).shape[1] != (down if middle is None else middle).shape[0]:
        return (up.shape[0], 0)  # ranks that do not meet
    columns = down.flatten(1).shape[1] if middle is None else down.shape[1] * math.prod(middle.shape[2:])
    return (up.shape[0], columns)


def _loha_shape(found: LoHa) -> tuple[int, int]:
    one, two, core = found.w1_a, found.w1_b, found.t1
    if core is None:
        return (one.shape[0], two.flatten(1).shape[1])
    return (one.shape[1], two.shape[1] * math.prod(core.shape[2:]))


def _lokr_shape(found: LoKr) -> tuple[int, int]:
    w2, core = found.w2, found.t2
    rows, columns = found.w1.shape if found.w1 is not None else (found.w1_a.shape[0], found.w1_b.shape[1])
    if w2 is not None:
        return (rows * w2.shape[0], columns * math.prod(w2.shape[1:]))
    if core is None:
        return (rows * found.w2_a.shape[0], columns * found.w2_b.flatten(1).shape[1])
    return (rows * found.w2_a.shape[1], columns * found.w2_b.shape[1] * math.prod(core.shape[2:]))
