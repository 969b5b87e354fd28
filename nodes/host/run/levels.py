"""A run's noise levels, and how the host's families put a picture and noise together at one of them."""

from __future__ import annotations

import math
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

ROUNDING = 1e-6  # so that 0.8 of 25 is 20 steps
RANGE_TOLERANCE = 0.01  # schedules of the same model may start a little above its table


def schedule(model_sampling: Any, scheduler: str, steps: int, denoise: float) -> Tensor:
    """The last k + 1 levels of a scheduler's n + 1, noisiest first, with k = floor(n·denoise).

    Raises ValueError for steps below 1, an unknown scheduler, a denoise outside (0, 1] or one that leaves no step.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; at least 1 is needed")
    if scheduler not in comfy.samplers.SCHEDULER_NAMES:
        raise ValueError(f"scheduler is {scheduler!r}; it must be one of {', '.join(comfy.samplers.SCHEDULER_NAMES)}")
    if not (math.isfinite(denoise) and 0.0 < denoise <= 1.0):
        raise ValueError(f"denoise is {denoise}; it must be above 0 and at most 1 (1 = all the way to pure noise)")
    sigmas = comfy.samplers.calculate_sigmas(model_sampling, scheduler, steps).cpu()
    total = len(sigmas) - 1
    kept = math.floor(total * denoise + ROUNDING)
    if kept == 0:
        enough = math.ceil(1000 / total) / 1000  # what the widget can show
        raise ValueError(
            f"denoise {denoise} of {total} steps leaves no step: raise denoise to {enough:g} or more, or raise steps"
        )
    try:
        return check_levels(model_sampling, sigmas[-(kept + 1) :], f"the {scheduler} schedule of {steps} steps")
    except ValueError as problem:
        raise ValueError(f"{problem}. Choose another scheduler or another number of steps") from None


def check_levels(model_sampling: Any, sigmas: Tensor, name: str = "sigmas") -> Tensor:
    """The levels as float32 on the CPU.

    Raises ValueError unless they are finite, fall strictly, end at 0 and lie in the model's range.
    """
    sigmas = sigmas.detach().flatten().float().cpu()
    if len(sigmas) < 2:
        raise ValueError(f"{name} has {len(sigmas)} level(s), which is no step; connect a scheduler's SIGMAS")
    if not torch.isfinite(sigmas).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    if not (sigmas[1:] < sigmas[:-1]).all():
        advice = "do not flip them" if bool((sigmas[1:] > sigmas[:-1]).all()) else "remove repeated or rising levels"
        raise ValueError(f"{name} must fall from each level to the next, as a sampler takes them; {advice}")
    if float(sigmas[-1]) != 0.0:
        raise ValueError(
            f"{name} ends at {float(sigmas[-1]):.4g}; it must end at 0, the picture itself. Of a split schedule, "
            "connect the part with the low levels"
        )
    largest = float(model_sampling.sigma_max)
    if float(sigmas[0]) > largest * (1 + RANGE_TOLERANCE):
        raise ValueError(
            f"{name} starts at {float(sigmas[0]):.4g}, this model's largest level is {largest:.4g}; connect a schedule "
            "that was made for this model"
        )
    return sigmas


def is_pure_noise(model_sampling: Any, sigma: float) -> bool:
    """Whether the host treats σ as a schedule's very start (comfy.samplers.Sampler.max_denoise)."""
    largest = float(model_sampling.sigma_max)
    return sigma > largest or math.isclose(sigma, largest, rel_tol=1e-5)


def with_noise(model_sampling: Any, sigma: float, noise: Tensor, picture: Tensor) -> Tensor:
    """The state at σ that the host's samplers start from: x0 + σ·n, or (1 − σ)·x0 + σ·n for flow models."""
    level = torch.tensor(sigma, dtype=torch.float32, device=noise.device)
    return model_sampling.noise_scaling(level, noise, picture, is_pure_noise(model_sampling, sigma))


def shares(model_sampling: Any, sigma: float) -> tuple[float, float]:
    """(a, b) of the host's x = a·picture + b·noise at σ."""
    zero, one = torch.zeros(1), torch.ones(1)
    return (
        float(with_noise(model_sampling, sigma, zero, one)),
        float(with_noise(model_sampling, sigma, one, zero)),
    )


def input_scale(model_sampling: Any, sigma: float) -> float:
    """c_in(σ): what the network's input is multiplied with."""
    return float(model_sampling.calculate_input(torch.tensor(sigma), torch.ones(1)))
