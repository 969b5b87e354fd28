"""The host's own KSampler, called as its node calls it."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import comfy.utils
import torch

MOST_LEVELS = 1_000_000  # of a schedule; each is a number that a scheduler computes


def ksample(
    model: Any, seed: int, steps: int, cfg: float, sampler_name: str, scheduler: str,
    positive: Any, negative: Any, latent: dict, denoise: float,
) -> dict:  # fmt: skip
    """LATENT in, LATENT out: ComfyUI's common_ksampler with preview and progress.

    Raises ValueError for less than one step, and for a denoise so low that the schedule, of which the host takes the
    last steps, fills the memory.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1")
    if 0 < denoise * MOST_LEVELS < steps:
        raise ValueError(
            f"denoise is {denoise:g}: {steps} steps of it are the end of a schedule of {steps / denoise:.3g}, more "
            f"than {MOST_LEVELS:,}. Raise denoise to {steps / MOST_LEVELS:.1g} or more; 0 leaves the latent as it is"
        )
    # ComfyUI's top-level module, not this pack's folder
    from nodes import common_ksampler  # pyright: ignore[reportAttributeAccessIssue]

    (result,) = common_ksampler(
        model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise=denoise
    )
    return result


def picture_size(model: Any, shape: torch.Size) -> tuple[int, int]:
    """(H, W) in pixels of a latent [B, C, ..., h, w], by the latent format's own ratio."""
    ratio = model.get_model_object("latent_format").spacial_downscale_ratio
    return shape[-2] * ratio, shape[-1] * ratio


def sampler_names() -> list[str]:
    return list(comfy.samplers.KSampler.SAMPLERS)


def scheduler_names() -> list[str]:
    return list(comfy.samplers.KSampler.SCHEDULERS)
