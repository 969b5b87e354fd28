"""Pictures of a subject's class, as the frozen model makes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .bank import levels
from .walks import noises, walk


def class_pictures(
    model: Any, positive: Any, negative: Any, cfg: float, empty: Tensor, seed: int, count: int, at_once: int
) -> Tensor:
    """[count, C, ...] in the model's internal latent space, by the host's Euler sampler."""
    sampling = model.get_model_object("model_sampling")
    sigmas = levels(sampling, 1.0, 0.5)
    made = []
    for first in range(0, count, at_once):
        seeds = range(seed + first, seed + min(first + at_once, count))
        found = walk(model, positive, negative, cfg, noises(empty, seeds), sigmas, seed)
        made.append(found.cpu().float())
    return model.get_model_object("latent_format").process_in(torch.cat(made))
