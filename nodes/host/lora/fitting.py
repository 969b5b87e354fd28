"""LoRA files: read safely, mapped onto a model's layers by the host's own loaders, and checked before anything runs."""

from __future__ import annotations

import logging
import math
import os
import pickle
import re
from dataclasses import dataclass
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.sd
import comfy.utils
import folder_paths
import safetensors
import torch
from torch import Tensor

logger = logging.getLogger("semantic_steering")

FOLDER = "loras"
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
    text-encoder half, which needs a CLIP.
    """

    label: str
    model: dict[Any, Any]
    clip: dict[Any, Any]
    matched: int
    total: int
    text_matched: int
    text_total: int

    @property
    def summary(self) -> str:
        """'matched 160 of 160', and what became of a text-encoder half."""
        text = f"matched {self.matched} of {self.total}"
        if self.text_matched:
            return f"{text}, text encoder {self.text_matched} of {self.text_total}"
        if self.text_total:
            return f"{text}, its text-encoder half ({self.text_total} layers) is not used: connect clip"
        return text


class MissingClip:
    """Stands for a text encoder that nobody connected, and says so to whoever uses it.

    Not to the host's cache, which asks every output for its `patcher`.
    """

    def __getattr__(self, name: str) -> Any:
        if name in vars(comfy.sd.CLIP) or name in ("cond_stage_model", "tokenizer"):
            raise ValueError(
                "this clip comes from a Slider LoRA Loader whose clip input is not connected. Connect the checkpoint's "
                "CLIP to that input, or take clip from the checkpoint loader"
            )
        raise AttributeError(name)


def patched_clip(clip: Any, layers: Layers, strength: float) -> Any:
    """A clone of a CLIP with the slider's text-encoder half, or what stands for a missing one."""
    if clip is None:
        return MissingClip()
    clone = clip.clone()
    if strength != 0:
        clone.add_patches(layers.clip, strength)
    return clone


def names() -> list[str]:
    """The files in ComfyUI's loras folders."""
    return folder_paths.get_filename_list(FOLDER)


def read(name: str) -> dict[str, Tensor]:
    """The tensors of a file in ComfyUI's loras folders. No code of a pickle is run.

    Raises FileNotFoundError for an unknown name, ValueError for a file that cannot be read.
    """
    path = folder_paths.get_full_path_or_raise(FOLDER, name)
    try:
        if path.lower().endswith((".safetensors", ".sft")):
            # Not every loader of the host compares the header with the file; this one does, without reading tensors.
            safetensors.safe_open(path, framework="pt").__exit__(None, None, None)
        state: Any = comfy.utils.load_torch_file(path, safe_load=True)
    except pickle.UnpicklingError as problem:
        raise ValueError(
            f"lora_name {name!r} is refused: it is a pickle of more than tensors, and no code of a file is run. "
            "Use a .safetensors version of this slider"
        ) from problem
    except Exception as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise ValueError(
            f"lora_name {name!r} cannot be read ({reason}): the file is incomplete or no LoRA. Download it again"
        ) from problem
    return state


def fingerprint(name: str) -> tuple[int, int] | None:
    """When a file was written and how large it is; None for one that is not there."""
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        return None
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size


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

    Raises ValueError if none of its layers fits; what fits in part is used and said in the log and the summary.
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
    return Layers(label, patches, clip_patches, matched, len(layer_names), text_matched, len(text_names))


def _layer_names(model: Any) -> dict[str, Any]:
    """{a layer's name in a file: the model's weight}, the host's table and one format more."""
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
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
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    patches = comfy.lora.load_lora(state, keys, log_missing=False)
    problems = {}
    named = {keys[name]: name for name in names if name in keys}
    for target in list(patches):
        key, offset = (target, None) if isinstance(target, str) else target[:2]
        found, wanted = _shape(patches[target]), list(shapes.get(key, ()))
        if offset is not None and wanted:
            wanted[offset[0]] = offset[2]
        flat = (wanted[0], math.prod(wanted[1:])) if wanted else ()
        if found is not None and found != flat:
            del patches[target]
            problems[named.get(target, key)] = (
                f"is {'x'.join(map(str, found))}, the model's layer {'x'.join(map(str, flat)) or 'is missing'}"
            )
    return patches, problems


def _shape(patch: Any) -> tuple[int, int] | None:
    """(out, in · kernel) of the difference that a patch makes; None where the host's own check has to do."""
    if isinstance(patch, tuple):
        tensor = patch[1][0]
        return (tensor.shape[0], math.prod(tensor.shape[1:])) if tensor.ndim else None
    weights = patch.weights
    if patch.name == "lora":
        up, down, _, middle, _, reshaped = weights
        if reshaped is not None:
            return None
        if up.flatten(1).shape[1] != (down if middle is None else middle).shape[0]:
            return (up.shape[0], 0)  # ranks that do not meet
        columns = down.flatten(1).shape[1] if middle is None else down.shape[1] * math.prod(middle.shape[2:])
        return (up.shape[0], columns)
    if patch.name == "loha":
        one, two, _, _, _, core = weights[:6]
        if core is None:
            return (one.shape[0], two.flatten(1).shape[1])
        return (one.shape[1], two.shape[1] * math.prod(core.shape[2:]))
    if patch.name == "lokr":
        w1, w2, _, w1_a, w1_b, w2_a, w2_b, core = weights[:8]
        rows, columns = w1.shape if w1 is not None else (w1_a.shape[0], w1_b.shape[1])
        if w2 is not None:
            return (rows * w2.shape[0], columns * math.prod(w2.shape[1:]))
        if core is None:
            return (rows * w2_a.shape[0], columns * w2_b.flatten(1).shape[1])
        return (rows * w2_a.shape[1], columns * w2_b.shape[1] * math.prod(core.shape[2:]))
    return None
