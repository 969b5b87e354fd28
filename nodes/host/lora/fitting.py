"""Which layers of a model a LoRA fits: by the host's own loaders, checked before anything runs."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from typing import Any

import comfy.lora
import comfy.lora_convert
import torch
from torch import Tensor

from .adapters import shape_of
from .shapes import INSTEAD, class_without_weight, foreign, logical_shapes, with_all_names

logger = logging.getLogger("semantic_steering")

# What follows a layer's name in a file's keys, in all formats the host knows.
SUFFIX = re.compile(
    r"[._](?:lora|hada|lokr|oft|boft)[._].*$"
    r"|\.(?:alpha|dora_scale|reshape_weight|rescale|diff|diff_b|set_weight|w_norm|b_norm)$"
    r"|\.[ab][12]\.weight$"
)
TEXT_ENCODER = re.compile(r"(?:lora_(?:prior_)?te|text_encoder|lora_text)")


@dataclass(frozen=True)
class Layers:
    """A slider's weights, by the weights of the model (and of the text encoder) that they change.

    label: what error texts call it; matched of total: how many of the file's layers fit; text_*: the same of its
    text-encoder half, which needs a CLIP; no_weight: the class of those of its layers that keep no weight to patch.
    """

    label: str
    model: dict[Any, Any]
    clip: dict[Any, Any]
    matched: int
    total: int
    text_matched: int
    text_total: int
    no_weight: str | None = None

    @property
    def summary(self) -> str:
        """'matched 160 of 160', and what became of a text-encoder half."""
        text = f"matched {self.matched} of {self.total}"
        if self.text_matched:
            return f"{text}, text encoder {self.text_matched} of {self.text_total}"
        if self.text_total:
            return f"{text}, its text-encoder half ({self.text_total} layers) is not used: connect clip"
        return text


def check_tensors(state: Any, label: str) -> None:
    """Raises ValueError for what is no state dict of finite tensors."""
    if not isinstance(state, dict) or not state:
        raise ValueError(f"{label} holds no tensors; choose a LoRA file")
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{label} is no LoRA: its entry {key!r} is a {type(value).__name__}, not a tensor")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{label}: {key!r} claims the shape {list(value.shape)}, more than the file holds")
        if value.is_floating_point() and not torch.isfinite(value.float()).all():
            raise ValueError(
                f"{label}: {key!r} holds NaN or infinite weights; the training of this slider failed, choose another"
            )
        if key.endswith(".alpha") and value.numel() != 1:
            raise ValueError(f"{label}: {key!r} has {value.numel()} values; an alpha is one number")


def fit(model: Any, clip: Any, state: dict[str, Tensor], label: str) -> Layers:
    """Map a slider onto a MODEL and, if given, a CLIP.

    Raises ValueError if none of its layers fits, or not all of them fit a model that has layers without weights; what
    fits any other in part is used and said in the log and the summary.
    """
    check_tensors(state, label)
    state = comfy.lora_convert.convert_lora(dict(state))
    found = list(dict.fromkeys(SUFFIX.sub("", key) for key in state if SUFFIX.search(key)))
    text_names = [name for name in found if TEXT_ENCODER.match(name)]
    layer_names = [name for name in found if not TEXT_ENCODER.match(name)]
    if not found:
        raise ValueError(
            f"{label} is no LoRA: none of its {len(state)} keys, such as {next(iter(state))!r}, is a layer's"
        )
    keys = _layer_names(model)
    patches, problems = _fitting(model.model, state, keys, layer_names)
    unfit = [name for name in layer_names if not _used(name, keys, patches)]
    clip_patches, text_matched = {}, 0
    if clip is not None:
        clip_keys = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
        clip_patches, _ = _fitting(clip.cond_stage_model, state, clip_keys, text_names)
        text_matched = sum(_used(name, clip_keys, clip_patches) for name in text_names)
    matched = len(layer_names) - len(unfit)
    if unfit:
        example = f"{unfit[0]!r} {problems.get(unfit[0], 'is not the name of a layer of this model')}"
        weightless, other = class_without_weight(model.model), foreign(model.model)
        if weightless is not None:
            raise ValueError(
                f"{label}: {len(unfit)} of {len(layer_names)} layers have no place in this model, whose layers of "
                f"class {weightless} have no weight and may stand for several: {example}. A part of a slider is "
                f"another slider: {INSTEAD}"
            )
        if not matched and other is not None:
            raise ValueError(
                f"{label} fits no layer of this model (0 of {len(layer_names)}), whose network is a {other} and shows "
                f"none: {example}. {INSTEAD[0].upper()}{INSTEAD[1:]}, or choose a slider for this checkpoint"
            )
        if not matched:
            raise ValueError(
                f"{label} fits no layer of this model (0 of {len(layer_names)}): {example}. It was made for another "
                "model family; choose a slider for this checkpoint"
            )
        logger.warning("%s: only %d of %d layers fit this model: %s", label, matched, len(layer_names), example)
    elif not layer_names and not text_matched:
        raise ValueError(
            f"{label} changes only text encoders ({len(text_names)} layers), of which none is connected that fits; "
            "connect clip, or choose another slider"
        )
    no_weight = class_without_weight(model.model, patches)
    return Layers(label, patches, clip_patches, matched, len(layer_names), text_matched, len(text_names), no_weight)


def _layer_names(model: Any) -> dict[str, Any]:
    """{a layer's name in a file: the model's weight}, the host's table and one format more."""
    keys = comfy.lora.model_lora_keys_unet(with_all_names(model.model), {})
    # The authors' Flux sliders: OneTrainer's names behind kohya's prefix.
    for name in [name for name in keys if name.startswith("lora_transformer_")]:
        keys.setdefault("lora_unet_" + name.removeprefix("lora_transformer_"), keys[name])
    return keys


def _used(name: str, keys: dict[str, Any], patches: dict[Any, Any]) -> bool:
    target = keys.get(name)
    bias = f"{target.removesuffix('.weight')}.bias" if isinstance(target, str) else None
    return target in patches or bias in patches


def _fitting(
    network: torch.nn.Module, state: dict[str, Tensor], keys: dict[str, Any], names: list[str]
) -> tuple[dict[Any, Any], dict[str, str]]:
    """The host's patches whose shape is that of their weight, and {a layer's name: why it does not fit}.

    The host itself finds out while it merges, and goes on with a line in the log.
    """
    shapes = logical_shapes(network)
    patches = comfy.lora.load_lora(state, keys, log_missing=False)
    problems = {}
    named = {keys[name]: name for name in names if name in keys}
    for target in list(patches):
        key, offset = (target, None) if isinstance(target, str) else target[:2]
        found, wanted = shape_of(patches[target]), list(shapes.get(key, ()))
        if offset is not None and wanted:
            wanted[offset[0]] = offset[2]
        flat = (wanted[0], math.prod(wanted[1:])) if wanted else ()
        if found is not None and found != flat:
            del patches[target]
            problems[named.get(target, key)] = (
                f"is {'x'.join(map(str, found))}, the model's layer {'x'.join(map(str, flat)) or 'is missing'}"
            )
    return patches, problems
