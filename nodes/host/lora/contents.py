"""What a LoRA file holds, whatever the model: its layers by the names in it, and what is broken in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import comfy.lora
import comfy.lora_convert
import torch
from torch import Tensor

# What follows a layer's name in a file's keys, in all formats the host knows.
END = re.compile(
    r"(?:[._]lora\.(?:up|down)\.weight"
    r"|\.lora_(?:up|down|mid)\.weight|\.lora_linear_layer\.(?:up|down)\.weight|\.lora_[AB](?:\.weight)?"
    r"|\.hada_(?:w[12]_[ab]|t[12])|\.lokr_(?:w[12](?:_[ab])?|t2)|\.oft_blocks|\.[ab][12]\.weight"
    r"|\.(?:alpha|dora_scale|reshape_weight|rescale|diff|diff_b|set_weight|w_norm|b_norm))$"
)
TEXT_ENCODER = re.compile(
    r"^(?:lora_(?:prior_)?te|text_encoder|lora_text|te\d?[._])"
    r"|text_model[._]encoder[._]layers|encoder[._]block[._]\d+[._]layer"
)
# PEFT puts an adapter's name before the end, and has words of its own for what the host calls otherwise.
ADAPTER = re.compile(r"\.lora_([AB])\.[^.]+\.weight$")
MAGNITUDE = re.compile(r"\.lora_magnitude_vector(?:\.[^.]+)*$")
BIAS = re.compile(r"\.lora_B(?:\.[^.]+)?\.bias$")
# XLabs' names for the processors of Flux, of which the host converts complete files only.
PROCESSORS = re.compile(r"\.processor\.(?:qkv|proj)_lora[12]?\.")
# Factors of one product: with one of them, all have to be there.
TOGETHER = (
    ("lora_up", "lora_down"), ("lora_A", "lora_B"), ("lora.up", "lora.down"),
    ("lora_linear_layer.up", "lora_linear_layer.down"), ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    ("hada_t1", "hada_t2"), ("lokr_w1_a", "lokr_w1_b"), ("lokr_w2_a", "lokr_w2_b"), ("a1", "a2", "b1", "b2"),
)  # fmt: skip
FACTOR = re.compile(rf"(?<=[._])(?:{'|'.join(re.escape(part) for parts in TOGETHER for part in parts)})(?=\.weight$|$)")
KRONECKER = re.compile(r"\.lokr_w([12])(?:_a)?$")
# Kinds that the host has no rule for, by what is in their keys.
FOREIGN = {"(IA)³": re.compile(r"\.(?:on_input|ia3_l)$"), "VeRA": re.compile(r"\.vera_lambda_")}


@dataclass(frozen=True)
class Contents:
    """state: a file's tensors by keys that the host can read; origin: the file's own key of each, without those that
    the host has added; layers: {a layer's name: its patches of the host, by "weight" and "bias"}."""

    state: dict[str, Tensor]
    origin: dict[str, str]
    layers: dict[str, dict[str, Any]]


def read(state: Any, label: str) -> Contents:
    """Raises ValueError, with the key, for what is no LoRA or is broken."""
    check_tensors(state, label)
    renamed, origin = _renamed(state)
    _check_complete(renamed, origin, label)
    names = {END.sub("", key): None for key in renamed if END.search(key)}
    found = comfy.lora.load_lora(renamed, {name: f"{name}.weight" for name in names}, log_missing=False)
    layers: dict[str, dict[str, Any]] = {}
    for target, patch in found.items():
        name, _, parameter = target.rpartition(".")
        layers.setdefault(name, {})[parameter] = patch
    if not layers:
        kind = next((kind for kind, keys in FOREIGN.items() if any(keys.search(key) for key in state)), None)
        if kind is not None:
            raise ValueError(
                f"{label} holds {kind} weights, such as {next(iter(state))!r}, which ComfyUI has no rule for. Use a "
                "LoRA, LoHa, LoKr or OFT version of this slider"
            )
        raise ValueError(
            f"{label} is no LoRA: none of its {len(state)} keys, such as {next(iter(state))!r}, is a layer's"
        )
    return Contents(renamed, origin, layers)


def check_tensors(state: Any, label: str) -> None:
    """Raises ValueError for what is no state dict of finite tensors."""
    if not isinstance(state, dict) or not state:
        raise ValueError(f"{label} holds no tensors; choose a LoRA file")
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{label} is no LoRA: its entry {key!r} is a {type(value).__name__}, not a tensor")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{label}: {key!r} claims the shape {list(value.shape)}, more than the file holds")
        if value.numel() == 0:
            raise ValueError(
                f"{label}: {key!r} is empty, of the shape {list(value.shape)} (a rank of 0?); choose another version "
                "of this slider"
            )
        if value.is_floating_point() and not torch.isfinite(value.float()).all():
            raise ValueError(
                f"{label}: {key!r} holds NaN or infinite weights; the training of this slider failed, choose another"
            )
        if key.endswith(".alpha") and value.numel() != 1:
            raise ValueError(f"{label}: {key!r} has {value.numel()} values; an alpha is one number")


def _renamed(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors by the host's keys, {such a key: the file's own})."""
    own = {id(value): key for key, value in state.items()}
    converted = comfy.lora_convert.convert_lora(dict(state))
    if any(PROCESSORS.search(key) for key in converted):
        converted = comfy.lora_convert.convert_uso_lora(converted)
    renamed: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    # The factors come first: what belongs to them is made with their rank.
    for key in sorted(converted, key=lambda key: bool(MAGNITUDE.search(key) or BIAS.search(key))):
        value = converted[key]
        name, changed = _for_the_host(key, value, renamed)
        if name in renamed or (name != key and name in converted):
            name, changed = key, value  # a second adapter in one file: told as not used
        renamed[name] = changed
        if id(value) in own:
            origin[name] = own[id(value)]
    return renamed, origin


def _for_the_host(key: str, value: Tensor, known: dict[str, Tensor]) -> tuple[str, Tensor]:
    """A key as the host spells it, and the tensor as it reads it. known: the layer's factors."""
    if MAGNITUDE.search(key):
        name = MAGNITUDE.sub("", key)
        up = known.get(f"{name}.lora_B.weight")
        return (key, value) if up is None else (f"{name}.dora_scale", value.reshape(-1, *[1] * (up.ndim - 1)))
    if key.endswith(".dora_scale") and value.ndim == 1:
        return key, value[:, None]  # one for each output; as it is, the host would multiply columns with it
    if BIAS.search(key):
        name = BIAS.sub("", key)
        alpha, down = known.get(f"{name}.alpha"), known.get(f"{name}.lora_A.weight")
        # PEFT multiplies the bias with alpha / rank as well.
        scaled = value if alpha is None or down is None else value * (alpha.item() / len(down))
        return f"{name}.diff_b", scaled
    return ADAPTER.sub(r".lora_\1.weight", key), value


def _check_complete(state: dict[str, Tensor], origin: dict[str, str], label: str) -> None:
    for key in state:
        missing = next((other for other in _partners(key) if other not in state), None)
        kronecker = KRONECKER.search(key)
        if kronecker:
            other = f"{key[: kronecker.start()]}.lokr_w{3 - int(kronecker[1])}"
            if other not in state and f"{other}_a" not in state:
                missing = other
        if missing is not None:
            raise ValueError(
                f"{label}: {origin.get(key, key)!r} has no counterpart {missing!r}: the file is incomplete. Download "
                "it again, or choose another version of this slider"
            )


def _partners(key: str) -> list[str]:
    """The keys of the other factors of a product."""
    found = FACTOR.search(key)
    if not found:
        return []
    together = next(parts for parts in TOGETHER if found[0] in parts)
    return [f"{key[: found.start()]}{part}{key[found.end() :]}" for part in together if part != found[0]]
