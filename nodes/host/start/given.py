"""What a node is given, looked at before it works: a script may put anything into a prompt, and a pack's output without
a type may be linked to every input. ComfyUI itself looks at neither."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..files.names import shown

TOLD = {"CLIP", "VAE", "SEGA_CONCEPTS"}  # of these a node itself says more where there is nothing
WIDGETS = {"FLOAT", "INT", "STRING", "COMBO"}  # without a link they have a value
FAR = 1000  # times a number's bound: beyond it not even the arithmetic holds
HALF = re.compile(r"[\ud800-\udfff]")


def _is_conditioning(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(entry, list | tuple)
        and len(entry) == 2
        and isinstance(entry[1], dict)
        and not (isinstance(entry[0], Tensor) and entry[0].ndim != 3)  # [batch, words, features]
        for entry in value
    )


def _is_latent(value: Any) -> bool:
    return isinstance(value, dict) and hasattr(value.get("samples"), "shape")  # a tensor, or parts packed as one


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_made(value: Any) -> bool:
    """Whether it can be of a type of the pack's own: all that a prompt can hold but a link is none of them."""
    return not isinstance(value, str | int | float | dict | list | None)


# By type of an input: whether a value is one, and what gives one.
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "MODEL": (lambda value: hasattr(value, "clone") and hasattr(value, "model_options"), "Load Checkpoint's MODEL"),
    "CLIP": (lambda value: hasattr(value, "tokenize"), "Load Checkpoint's CLIP"),
    "VAE": (lambda value: hasattr(value, "decode"), "Load Checkpoint's VAE"),
    "CONDITIONING": (_is_conditioning, "CLIP Text Encode"),
    "LATENT": (_is_latent, "Empty Latent Image or VAE Encode"),
    "IMAGE": (lambda value: isinstance(value, Tensor), "Load Image or VAE Decode"),
    "MASK": (lambda value: isinstance(value, Tensor), "Load Image (as Mask)"),
    "LORA_MODEL": (lambda value: isinstance(value, dict) and all(isinstance(key, str) for key in value), "Train LoRA"),
    "SEGA_CONCEPTS": (_is_made, "SEGA Concept"),
    "SEGA_VECTORS": (_is_made, "SEGA Sampler or SEGA Load Vectors"),
    "INVERSION": (_is_made, "DDIM Invert"),
    "SIGMAS": (lambda value: isinstance(value, Tensor), "Basic Scheduler"),
    "FLOAT": (_is_number, "a number"),
    "INT": (_is_number, "a whole number"),
    "STRING": (lambda value: isinstance(value, str), "a text"),
    "COMBO": (lambda value: isinstance(value, str), "a text that is in its list"),
}
# Of types that hold tensors: which, and what they hold none of.
EMPTY: dict[str, tuple[Callable[[Any], list[Any]], str]] = {
    "CONDITIONING": (lambda value: [entry[0] for entry in value], "words"),
    "LATENT": (lambda value: [value["samples"]], "latent"),
    "IMAGE": (lambda value: [value], "picture"),
    "MASK": (lambda value: [value], "pixel"),
}


def guarded(node: Any, inputs: list[Any]) -> Any:
    """A node class whose `execute` first refuses what is of another kind than the input's type: ValueError with the
    input's name, the value and what to connect."""
    execute = node.execute.__func__
    signature = inspect.signature(execute)
    fields = {field.id: field for field in inputs}

    @functools.wraps(execute)
    def looked_at(cls: Any, *args: Any, **kwargs: Any) -> Any:
        for name, value in signature.bind(cls, *args, **kwargs).arguments.items():
            if name in fields:
                _check(fields[name], value)
        return execute(cls, *args, **kwargs)

    node.execute = classmethod(looked_at)
    return node


def _check(field: Any, value: Any) -> None:
    name, kind = field.id, field.get_io_type()
    if kind == "BOOLEAN":
        return
    if value is None and (kind in TOLD or (field.optional and kind not in WIDGETS)):
        return
    is_one, gives_one = KINDS[kind]
    if not is_one(value):
        raise ValueError(f"{name} is {shown(value)} ({type(value).__name__}), which is no {kind}: connect {gives_one}")
    if isinstance(value, str) and HALF.search(value):
        raise ValueError(f"{name} holds half a letter (a lone surrogate), which no text has: type it anew")
    if kind in EMPTY:
        tensors, what = EMPTY[kind]
        for tensor in tensors(value):
            if isinstance(tensor, Tensor) and not tensor.numel():
                shape = list(tensor.shape)
                raise ValueError(f"{name} holds no {what}; connect a batch of at least one: its shape is {shape}")
    if kind in ("INT", "FLOAT"):
        _check_number(field, value)


def _check_number(field: Any, value: Any) -> None:
    """Of a link ComfyUI compares no bounds. What is little below or above them the nodes themselves tell, or can do."""
    bounds = f"from {field.min} to {field.max}"
    if field.get_io_type() == "INT" and not (value == value // 1 and value <= field.max):
        raise ValueError(f"{field.id} is {value}; it must be a whole number {bounds}")
    if FAR * max(abs(field.min), abs(field.max)) < abs(value) < math.inf:
        raise ValueError(f"{field.id} is {value}; it must be {bounds}")
