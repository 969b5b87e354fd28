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


def tensors(patch: Any) -> list[Tensor]:
    """Those that the host's merge reads."""
    if isinstance(patch, tuple):
        return [whole_difference(patch)]
    ignored = patch.weights[1] if patch.name == "oft" else None  # read and left out of the merge: "rescale"
    return [part for part in patch.weights if isinstance(part, Tensor) and part is not ignored]


def resizes(patch: Any, shape: tuple[int, ...]) -> bool:
    """Whether a patch gives a weight of this shape another one."""
    found = parts(patch) if not isinstance(patch, tuple) and patch.name in ADDITIVE else None
    return isinstance(found, LoRA) and found.reshape is not None and tuple(found.reshape) != shape


def misfit(patch: Any, shape: tuple[int, ...]) -> str | None:
    """How a patch and a weight of this shape disagree; None where the host can merge it.

    The host itself finds out while it merges, and goes on with a line in the log.
    """
    if isinstance(patch, tuple):
        own = tuple(whole_difference(patch).shape)
        return None if own == shape else _both(own, shape)
    if patch.name not in ADDITIVE:
        return _misfit_of_others(patch, shape)
    found = parts(patch)
    if isinstance(found, LoRA) and found.reshape is not None:
        if len(found.reshape) != len(shape) or any(n < o for n, o in zip(found.reshape, shape, strict=True)):
            return _both(tuple(found.reshape), shape)
        shape = tuple(found.reshape)
    if found.dora_scale is not None and not _stretches(found.dora_scale, shape):
        return f"has magnitudes of the shape {list(found.dora_scale.shape)}, the model's layer is {_sizes(shape)}"
    if isinstance(found, LoRA):
        own = _lora_shape(found)
        if own is None:
            return f"has factors of {_sizes(found.up.shape)} and {_sizes(found.down.shape)} that make no product"
    else:
        own = _loha_shape(found) if isinstance(found, LoHa) else _lokr_shape(found)
    flat = (shape[0], math.prod(shape[1:])) if shape else ()
    return None if own == flat else _both(own, flat)


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _both(own: tuple[int, ...], shape: tuple[int, ...]) -> str:
    return f"is {_sizes(own)}, the model's layer {_sizes(shape)}"


def _stretches(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a tensor can be multiplied with one of this shape without making it larger."""
    if tensor.ndim > len(shape):
        return False
    sizes = zip(reversed(tensor.shape), reversed(shape), strict=False)
    return all(own in (1, wanted) for own, wanted in sizes)


def _misfit_of_others(patch: Any, shape: tuple[int, ...]) -> str | None:
    """That of GLoRA, OFT and BOFT."""
    rows, columns = (shape[0], math.prod(shape[1:])) if shape else (0, 0)
    if patch.name == "glora":
        a1, a2, b1, b2 = patch.weights[:4]
        newer = b2.shape[0] == b1.shape[1] == a1.shape[1] == a2.shape[0]
        older = b2.shape[1] == b1.shape[0] == a1.shape[0] == a2.shape[1]
        if not (newer or older):
            return "has factors that make no product"
        own = (len(b1), b2.flatten(1).shape[1]) if newer else (len(b2), b1.flatten(1).shape[1])
        return None if own == (rows, columns) else _both(own, (rows, columns))
    blocks, _, alpha = patch.weights[:3]  # OFT: [blocks, size, size]; BOFT: [stages, blocks, size, size]
    if patch.name == "boft" and alpha is None:
        return "is a BOFT without an alpha, which ComfyUI does not merge"
    turned = blocks.shape[-3] * blocks.shape[-1]
    stages = 2 ** (len(blocks) - 1) if patch.name == "boft" else 1
    if turned == rows and rows % (stages * blocks.shape[-1]) == 0:
        return None
    return f"turns {turned} outputs, the model's layer has {rows}"


def _lora_shape(found: LoRA) -> tuple[int, int] | None:
    """None where the factors do not meet."""
    up, down, middle = found.up, found.down, found.middle
    if min(up.ndim, down.ndim) < 2 or (middle is not None and middle.ndim != 4):  # the host knows two axes of a kernel
        return None
    if up.flatten(1).shape[1] != (down if middle is None else middle).shape[0]:
        return None
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
