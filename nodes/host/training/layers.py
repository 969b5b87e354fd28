"""Which layers of a network a slider is trained on, and what a file calls them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import comfy.lora
import comfy.utils
import torch
from comfy.quant_ops import QuantizedTensor

from ..lora.shapes import features, without_weight

TRAINABLE = "load this model in another form, such as fp8, int8 or nvfp4"
CHOICES = ("no cross-attention", "cross-attention", "self-attention", "all linear", "all")

# Names of the host's networks. A block is one of several in a row; what lies outside of blocks reads the picture, the
# text and the time, or writes the result.
BLOCK = re.compile(r"(?:^|\.)\w*(?:block|layer|refiner)s?\.\d+\.(?!\d+$)|^middle_block\.")
# What reads the text: the cross-attention, and in networks that treat words like cells of a picture the words' side.
CROSS = re.compile(r"\.cross_attn\.|\.txt_attn\.|\.context_block\.attn\.|\.add_[qkv]_proj$|\.to_add_out$")
TEXT = re.compile(r"^txt_|(?:^|\.)(?:txt|context|cap|text)_")
SELF = re.compile(r"attn|attention|\.linear[12]$")  # the last: Flux's, attention and feed-forward in one
SEES = re.compile(r"(?:^|\.)(?:visual|vision|audio)")  # of encoders that see and hear too
ATTENDS = re.compile(r"attn|[aA]ttention|\.mixer\.")  # of text encoders
# What makes scales and shifts of the time, in transformers; a UNet's own is in its residual blocks (emb_layers).
TIME = re.compile(r"(?:^|[._])(?:mod|modulation\w*|adaLN\w*|time\w*|label\w*|t_embedder|y_embedder)(?:[._]|$)")
# Of a UNet's blocks: those that diffusers' residual blocks and their changes of size consist of.
CONVOLUTIONAL = re.compile(r"\.(?:in_layers|out_layers|emb_layers|skip_connection|op|conv)(?:\.|$)")


@dataclass(frozen=True)
class Layer:
    """path: in the host's BaseModel; name: in files, as Concept Sliders' authors and kohya write it."""

    path: str
    name: str
    module: torch.nn.Module

    @property
    def sizes(self) -> tuple[int, int]:
        """(in, out)."""
        found = features(self.module)
        return (found[1], found[0]) if found else (self.module.in_channels, self.module.out_channels)  # type: ignore[attr-defined]


def chosen(model: Any, choice: str, rank: int) -> list[Layer]:
    """The layers of a MODEL that a choice means.

    The UNets' "no cross-attention" is the authors' noxattn on their c3lier layers: self-attention, residual blocks and
    changes of size. Of transformers it is every linear layer of their blocks but what reads the text or the time.
    Raises ValueError for a choice without layers, for layers that have no weight or a packed one of another pack's, and
    for a rank above the smallest layer's.
    """
    if choice not in CHOICES:
        raise ValueError(f"layers is {choice!r}; it must be one of {', '.join(CHOICES)}")
    network, names = model.model.diffusion_model, _names(model)
    meant = _of_unet if hasattr(network, "input_blocks") else _of_transformer
    found = [
        Layer(f"diffusion_model.{path}", names.get(path) or f"lora_unet_{path.replace('.', '_')}", module)
        for path, module in network.named_modules()
        if _is_layer(module) and BLOCK.search(path) and meant(path, features(module) is not None, choice)
    ]
    if not found:
        raise ValueError(
            f"layers is {choice!r}, of which this model ({type(network).__name__}) has none; choose all linear"
        )
    check_trainable(found, network, rank, "model")
    return found


def chosen_of_text(clip: Any, choice: str, rank: int) -> list[Layer]:
    """The layers of a CLIP that a choice means, in the blocks of all its text encoders: self-attention alone, or every
    linear one. Names are kohya's where the host knows such of an encoder (CLIP-L, OpenCLIP-G, T5), else the host's own.

    Raises ValueError as `chosen` does.
    """
    network, names = clip.cond_stage_model, _text_names(clip.cond_stage_model)
    found = [
        Layer(path, names.get(f"{path}.weight") or f"text_encoders.{path}", module)
        for path, module in network.named_modules()
        if features(module) is not None and BLOCK.search(path) and not SEES.search(path)
        and (choice != "self-attention" or ATTENDS.search(path))
    ]  # fmt: skip
    if choice == "cross-attention" or not found:
        raise ValueError(
            f"layers is {choice!r}, of which this clip ({type(network).__name__}) has none; choose all linear"
        )
    check_trainable(found, network, rank, "clip")
    return found


def check_trainable(found: list[Layer], network: torch.nn.Module, rank: int, what: str) -> None:
    """Refuses layers that have no weight, a network with packed ones of another pack's, and a rank above the smallest
    layer's. what: the input."""
    weightless = next((layer for layer in found if without_weight(layer.module)), None)
    if weightless is not None:
        raise ValueError(
            f"{what} cannot be trained on: its layer {weightless.path!r} is of class "
            f"{type(weightless.module).__name__}, which has no weight that gradients could pass through; {TRAINABLE}"
        )
    packed = next(((name, weight) for name, weight in network.named_parameters() if _foreign(weight)), None)
    if packed is not None:
        name, weight = packed
        raise ValueError(
            f"{what} cannot be trained on: its weight {name!r} is packed as {type(weight).__name__}, which has no way "
            f"back for gradients; {TRAINABLE}"
        )
    smallest = min(found, key=lambda layer: min(layer.sizes))
    largest = min(smallest.sizes)
    if rank > largest:
        raise ValueError(
            f"rank is {rank}, more than the {largest} that the smallest layer ({smallest.path!r}, "
            f"{'x'.join(map(str, smallest.sizes))}) can hold; set rank to {largest} or less (usually 4 to 16)"
        )


def _foreign(weight: torch.Tensor) -> bool:
    """Whether a weight is of a class that another pack brings (GGUF): the host's own packed ones have gradients."""
    return type(weight) is not torch.nn.Parameter and not isinstance(weight, QuantizedTensor)


def _is_layer(module: torch.nn.Module) -> bool:
    convolution = isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d))
    return (convolution and module.groups == 1) or features(module) is not None


def _of_unet(path: str, linear: bool, choice: str) -> bool:
    return {
        "no cross-attention": ".attn1." in path or bool(CONVOLUTIONAL.search(path)),
        "cross-attention": ".attn2." in path,
        "self-attention": ".attn1." in path,
        "all linear": linear,
        "all": True,
    }[choice]


def _of_transformer(path: str, linear: bool, choice: str) -> bool:
    cross = bool(CROSS.search(path))
    picture = not (cross or TEXT.search(path) or TIME.search(path))
    return (
        linear
        and {
            "no cross-attention": picture,
            "cross-attention": cross,
            "self-attention": picture and bool(SELF.search(path)),
            "all linear": True,
            "all": True,
        }[choice]
    )


def _names(model: Any) -> dict[str, str]:
    """{a UNet's own layer: its name in files}, by diffusers' names of them."""
    table = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    return {
        ours.removesuffix(".weight"): f"lora_unet_{theirs.removesuffix('.weight').replace('.', '_')}"
        for theirs, ours in table.items()
        if theirs.endswith(".weight")
    }


def _text_names(network: torch.nn.Module) -> dict[str, str]:
    """{weight: kohya's name of its layer}. One encoder alone is lora_te; of several each has its number, as in SDXL."""
    found: dict[str, list[str]] = {}
    for name, target in comfy.lora.model_lora_keys_clip(network, {}).items():
        if isinstance(target, str) and name.startswith("lora_te"):
            found.setdefault(target, []).append(name)
    several = any(name.startswith("lora_te2_") for names in found.values() for name in names)
    return {
        target: next((name for name in names if name.startswith("lora_te_") != several), names[0])
        for target, names in found.items()
    }
