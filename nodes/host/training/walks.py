"""Runs of the host's Euler sampler from noise alone: the bank's states, the class's pictures and the strip."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ..run.samplers import guider_for


def noises(empty: Tensor, seeds: Iterable[int]) -> Tensor:
    """The host's noise of each seed, whichever others run beside it. empty: one picture's latent."""
    each: list[Any] = [comfy.sample.prepare_noise(empty, seed) for seed in seeds]
    return torch.cat(each)


def walk(
    model: Any, positive: Any, negative: Any, cfg: float, noise: Tensor, sigmas: Tensor, seed: int,
    callback: Callable[..., None] | None = None,
) -> Tensor:  # fmt: skip
    """LATENT samples, a picture for each of `noise`, along `sigmas`. negative: not asked at a cfg of 1."""
    conds = {"positive": positive} | ({"negative": negative} if cfg != 1 else {})
    euler, start = comfy.samplers.sampler_object("euler"), torch.zeros_like(noise)
    guider = guider_for(model, conds, cfg)
    return guider.sample(noise, start, euler, sigmas, callback=callback, disable_pbar=True, seed=seed)
