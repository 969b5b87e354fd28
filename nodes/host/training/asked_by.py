"""Conditionings that a training asks by: what is taken of them, and the one of nothing."""

from __future__ import annotations

from typing import Any

import torch

from ..conditioning.checks import check_encoded
from ..conditioning.concept import Conditioning

# What lets a conditioning hold in a part of the picture or of the run only, or act through another model.
PARTIAL = ("area", "mask", "hooks", "control", "start_percent", "end_percent")


def checked(model: Any, conditioning: Conditioning | None, name: str) -> Conditioning:
    """A conditioning that holds everywhere, at all levels; for None, of UNets, the one of nothing.

    Raises ValueError, with the input's name, for one that is empty or holds in a part only, and for None where the
    model has no such thing.
    """
    if conditioning is None:
        return _of_nothing(model, name)
    check_encoded(**{name: conditioning})
    for features, options in conditioning:
        if not torch.isfinite(features).all():
            raise ValueError(f"{name} holds values that are no numbers; connect a CLIP Text Encode of this checkpoint")
        partial = next((key for key in PARTIAL if options.get(key) is not None and not _everywhere(options, key)), None)
        if partial is not None:
            raise ValueError(
                f"{name} has {partial!r}, with which it holds in a part of the picture or of the run only, or through "
                "another model: connect a plain CLIP Text Encode"
            )
    return conditioning


def _everywhere(options: dict, key: str) -> bool:
    return options[key] == {"start_percent": 0.0, "end_percent": 1.0}.get(key)


def emptied(conditioning: Conditioning) -> Conditioning:
    """What Conditioning Zero Out makes of it."""
    return [
        [torch.zeros_like(features), {key: torch.zeros_like(value) if key == "pooled_output" and value is not None
                                      else value for key, value in options.items()}]
        for features, options in conditioning
    ]  # fmt: skip


def alike(one: Conditioning, other: Conditioning) -> bool:
    """Whether all that a text encoder gives is the same."""

    def values(conditioning: Conditioning) -> list[torch.Tensor]:
        pooled = [options.get("pooled_output") for _, options in conditioning]
        return [value for value in [*(features for features, _ in conditioning), *pooled] if value is not None]

    first, second = values(one), values(other)
    return len(first) == len(second) and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, second, strict=True)
    )


def check_different(instance: Conditioning, of_class: Conditioning) -> None:
    """Raises ValueError for an identifier that the model does not see."""
    if alike(instance, of_class):
        raise ValueError(
            "instance_conditioning and class_conditioning are the same to this model: nothing would tell your subject "
            "from its class. Put a rare word into the first, such as 'a photo of sks dog'"
        )


def _of_nothing(model: Any, name: str) -> Conditioning:
    network, config = model.model.diffusion_model, model.model.model_config.unet_config
    width = config.get("context_dim")
    if not hasattr(network, "input_blocks") or not width:
        raise ValueError(
            f"{name} is not connected, and this model has no conditioning of nothing: connect a CLIP Text Encode with "
            "what all these pictures show"
        )
    features = torch.zeros(1, 77, width[0] if isinstance(width, (list, tuple)) else width)
    pooled = config.get("adm_in_channels")
    return [[features, {"pooled_output": torch.zeros(1, 1280)} if pooled else {}]]
