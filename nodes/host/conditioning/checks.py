"""What is refused of conditionings, guiders and latents before a run begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .concept import ConceptInput, Conditioning


def check_positive(guider: Any) -> None:
    """Refuse guiders without a positive."""
    if not guider.conds.get("positive"):
        raise ValueError(
            f"SEGA cannot steer this guider: it has no positive conditioning (it has {', '.join(guider.conds)}), from "
            "which concepts take their context. Use CFGGuider or a KSampler"
        )


def check_latent(model: Any, shapes: list[torch.Size], pictures: bool = False) -> None:
    """Refuse packed latents, and a latent whose channels are another model family's.

    pictures: also refuse latents without height and width (sound), for masks and activity maps.
    """
    if len(shapes) > 1:
        raise ValueError(
            f"SEGA cannot steer a packed latent ({len(shapes)} parts, as audio with video): a threshold over parts of "
            "different kinds has no meaning. Sample the parts separately, or remove SEGA from this model"
        )
    if pictures:
        check_height_and_width(
            shapes[0],
            "masks and SEGA Sampler's activity need a picture or a video. Remove the masks and use SEGA Guidance "
            "before a KSampler",
        )
    check_channels(model, shapes[0], "connect an Empty Latent Image")


def check_height_and_width(shape: Sequence[int], needed: str) -> None:
    """Refuse a latent [B, C, ...] without height and width (sound). needed: by what, and what to do."""
    if len(shape) < 4:
        raise ValueError(f"this latent has the shape {list(shape)}, without height and width; {needed}")


def check_channels(model: Any, shape: Sequence[int], otherwise: str = "", name: str = "latent_image") -> None:
    """Refuse a latent [B, C, ...] of another family's channels. otherwise: what else could be connected; name:
    of the input."""
    expected = model.get_model_object("latent_format").latent_channels
    if shape[1] != expected:
        raise ValueError(
            f"{name} has {shape[1]} channels, this model's latents have {expected}: it was made for another "
            f"model family. Encode the picture with this checkpoint's VAE{otherwise and f', or {otherwise}'}"
        )


def check_encoded(**conditionings: Conditioning | None) -> None:
    """Refuse conditionings (by input name; None is not connected) that are empty, or encoded for different models."""
    first: tuple[str, Any] | None = None
    for name, conditioning in conditionings.items():
        if conditioning is None:
            continue
        if not conditioning:
            raise ValueError(f"{name} is empty; connect a CLIP Text Encode (its text may be empty)")
        for features, _ in conditioning:
            if not isinstance(features, torch.Tensor):  # some models need none
                continue
            if first is None:
                first = (name, features.shape[-1])
            elif features.shape[-1] != first[1]:
                raise ValueError(
                    f"{name} has {features.shape[-1]} text features, {first[0]} has {first[1]}: they were encoded for "
                    "different models. Connect the CLIP of this checkpoint to both"
                )


def check_clip(clip: Any) -> None:
    """Refuse a checkpoint without a text encoder."""
    if clip is None:
        raise ValueError("clip is empty: this checkpoint has no text encoder of its own. Connect a Load CLIP")


def check_poles_differ(alike: bool, positive: str, negative: str) -> None:
    """Refuse two texts that a text encoder reads alike."""
    if alike:
        raise ValueError(
            f"positive and negative are the same to this model ({positive.strip()!r}, {negative.strip()!r}): nothing "
            "lies between them. Write two opposites"
        )


def check_width(concept: ConceptInput, conds: list[dict], positive: list[dict]) -> None:
    """Refuse a concept encoded for another model family."""
    for key, what in (("cross_attn", "text features"), ("pooled_output", "pooled text features")):
        for cond in conds:
            own, other = cond.get(key), positive[0].get(key)
            if isinstance(own, torch.Tensor) and isinstance(other, torch.Tensor) and own.shape[-1] != other.shape[-1]:
                raise ValueError(
                    f"concept {concept.name!r}: its conditioning has {own.shape[-1]} {what}, the positive has "
                    f"{other.shape[-1]}: it was encoded for another model family. Connect the CLIP of this checkpoint"
                )
