"""Pictures with noise, as a training step shows them to the model: which ones, at which levels, and its goal there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....guidance_core import noise_estimate
from ..run.levels import with_noise

BELOW_ONE = 1 - 2**-24  # the last float32 there


def plain(values: Tensor | Sequence[float]) -> Tensor:
    """A copy in float32 on the CPU, of no inference mode: nodes run in it, and autograd refuses its tensors."""
    with torch.inference_mode(False):
        return torch.as_tensor(values, dtype=torch.float32, device="cpu").clone()


def spread(rng: torch.Generator, count: int) -> Tensor:
    """`count` numbers in [0, 1), rising, one in each of as many equal parts."""
    places = (torch.arange(count) + torch.rand(count, generator=rng)) / count
    return places.clamp(max=BELOW_ONE)  # count − 1 and the largest that rand gives are rounded to count


def evenly(rng: torch.Generator, total: int, count: int) -> Tensor:
    """`count` of `total` rows in random order, none a second time before all had their turn."""
    return torch.randperm(total, generator=rng).repeat(-(-count // total))[:count]


@dataclass(frozen=True)
class Noise:
    """Noise at levels whose shares of the model's range are uniform from start_percent to end_percent.

    Raises ValueError for a range that is empty or none.
    """

    sampling: Any
    start_percent: float
    end_percent: float

    def __post_init__(self) -> None:
        if not 0 <= self.start_percent < self.end_percent <= 1:
            raise ValueError(
                f"start_percent is {self.start_percent:g} and end_percent {self.end_percent:g}; both lie from 0 to 1, "
                "start_percent below end_percent (usually 0 and 1)"
            )

    def drawn(self, rng: torch.Generator, count: int, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(sigma [count], one out of each of as many parts of the range, noisiest first; noise [count, *shape])."""
        shares = self.start_percent + spread(rng, count).double() * (self.end_percent - self.start_percent)
        lowest, highest = float(self.sampling.sigma_min), float(self.sampling.sigma_max)
        sigmas = [float(self.sampling.percent_to_sigma(share)) for share in shares.tolist()]
        sigma = torch.tensor(sigmas).clamp(lowest, highest)  # a range's ends are far outside, or 0
        return sigma, torch.randn(count, *shape, generator=rng)

    def added(self, pictures: Tensor, sigma: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(x, the model's goal there): pictures, noise [B, C, ...]; sigma [B]."""
        rows = zip(sigma.tolist(), noise.split(1), pictures.split(1), strict=True)
        x = torch.cat([with_noise(self.sampling, *row) for row in rows])
        return x, noise_estimate(x, pictures, sigma)
