"""Pictures of a subject's class, as the frozen model makes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .bank import levels
from .walks import noises, walk

LEAST, FOR_EACH = 64, 4  # pictures; for each of the subject's


def class_pictures(model: Any, positive: Any, empty: Tensor, seed: int, subject: int, at_once: int) -> Tensor:
    """[N, C, ...] in the model's internal latent space, by the host's Euler sampler. subject: how many pictures of it
    there are.

    At cfg 1, where training on them leaves the model as it is. Guided ones, as diffusers' script makes them, are less
    varied than what the model says of its class, and guided again when they have been learnt.
    """
    sampling, count = model.get_model_object("model_sampling"), max(LEAST, FOR_EACH * subject)
    sigmas = levels(sampling, 1.0, 0.5)
    made = []
    for first in range(0, count, at_once):
        seeds = range(seed + first, seed + min(first + at_once, count))
        made.append(walk(model, positive, None, 1.0, noises(empty, seeds), sigmas, seed).cpu().float())
    return model.get_model_object("latent_format").process_in(torch.cat(made))
