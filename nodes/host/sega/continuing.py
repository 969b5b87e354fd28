"""Momentum that goes on in the next sampler: where a run leaves noise in its latent and another run of the same model
takes it out, both together are one run.

It travels with the latent's own tensor, as long as that lives (in ComfyUI's cache as well), and nowhere else: what a
run does depends on its inputs only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ..run.samplers import handed_on
from .settings import Steering


@dataclass(frozen=True)
class Left:
    """What a run leaves. steering: whose; sigma: where it stopped; nu: the momentum by a concept's place among those
    given."""

    steering: Steering
    sigma: float
    nu: dict[int, Tensor]


_left = WeakIdKeyDictionary()


def leave(samples: Tensor, steering: Steering, sigma: float, nu: dict[int, Tensor]) -> Tensor:
    """Have the momentum travel with a run's result; returns that result as the host hands it on."""
    samples = handed_on(samples)
    _left[samples] = Left(steering, sigma, {place: each.to(samples.device) for place, each in nu.items()})
    return samples


def found(latent: Tensor, noise: Tensor, steering: Steering, sigma: float) -> dict[int, Tensor] | None:
    """The momentum that came with a latent; None where this run does not go on at σ, without new noise and with the
    same concepts, where an earlier one stopped."""
    left = _left.get(latent)
    if left is None or left.steering is not steering or not math.isclose(left.sigma, sigma, rel_tol=1e-5):
        return None
    return None if bool(noise.any()) else left.nu
