"""Pictures and videos as latents: what of a LATENT is taken, and in which space."""

from __future__ import annotations

from typing import Any

import comfy.sample
import torch
from torch import Tensor

from ..conditioning.checks import check_channels


def internal(model: Any, samples: Tensor) -> Tensor:
    """LATENT samples in the model's own latent space, as the host's guiders make them."""
    samples = samples.cpu().float()
    # The host does not shift a latent that is empty.
    layout = model.get_model_object("latent_format")  # a patch may have replaced the model's own
    return layout.process_in(samples) if torch.count_nonzero(samples) > 0 else samples


def picture_latent(model: Any, latent: dict, name: str, use: str) -> Tensor:
    """The samples of a LATENT, in the rank that the model takes. name: of the input; use: what is done with it.

    Raises ValueError for packed latents, another family's channels, or values that are no numbers.
    """
    samples = latent["samples"]
    if samples.is_nested:
        raise ValueError(
            f"{name} is a packed latent (several parts, as audio with video), which cannot be {use}; connect the "
            "picture's or the video's part alone"
        )
    samples = comfy.sample.fix_empty_latent_channels(model, samples)
    if samples.is_nested:  # what some models make of an empty latent
        raise ValueError(
            f"model takes packed latents (several parts, as audio with video), which cannot be {use}; connect a model "
            "of pictures or videos alone"
        )
    check_channels(model, samples.shape, name=name)
    layout = model.get_model_object("latent_format")
    if samples.ndim != 2 + layout.latent_dimensions:
        raise ValueError(
            f"{name} has the shape {list(samples.shape)}, this model's latents have "
            f"{2 + layout.latent_dimensions} dimensions with batch and channels (a picture 4, a video 5): encode with "
            "this checkpoint's VAE"
        )
    if not torch.isfinite(samples).all():
        raise ValueError(f"{name} holds NaN or infinite values; the picture before it is broken")
    return samples
