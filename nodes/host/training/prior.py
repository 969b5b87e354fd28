"""Pictures of a subject's class, as the frozen model makes them."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ..run.samplers import guider_for
from .bank import levels


def class_pictures(
    model: Any, positive: Any, negative: Any, cfg: float, empty: Tensor, seed: int, count: int, at_once: int
) -> Tensor:
    """[count, C, ...] in the model's internal latent space, by the host's Euler sampler."""
    sampling = model.get_model_object("model_sampling")
    sigmas = levels(sampling, 1.0, 0.5)
    conds = {"positive": positive} | ({"negative": negative} if cfg != 1 else {})
    made = []
    for first in range(0, count, at_once):
        seeds = range(seed + first, seed + min(first + at_once, count))
        noises: list[Any] = [comfy.sample.prepare_noise(empty, each) for each in seeds]
        start = empty.repeat(len(seeds), *[1] * (empty.ndim - 1))
        found = guider_for(model, conds, cfg).sample(
            torch.cat(noises), start, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=seed
        )
        made.append(found.cpu().float())
    return model.get_model_object("latent_format").process_in(torch.cat(made))
