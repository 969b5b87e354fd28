"""A slider from pairs of pictures: equation 9 of Concept Sliders without what both sides have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ....guidance_core import pair_loss
from .asking import Asked
from .noised import Noise, evenly, plain
from .text import TARGET


class PairObjective:
    """Both sides of a pair with one noise at one level: the slider at s on the picture after the change, at −s on the
    one before. The conditioning it asks by is `TARGET`.

    before, after: [P, C, ...] in the model's internal latent space; strengths: s of each pair, P numbers; percents: of
    the model's range of levels. Raises ValueError for sides or strengths that do not go together, a strength of 0 and
    a range without levels.
    """

    def __init__(self, sampling: Any, before: Tensor, after: Tensor, strengths: Sequence[float],
                 start_percent: float, end_percent: float):  # fmt: skip
        self.noise = Noise(sampling, start_percent, end_percent)
        self.before, self.after, self.strengths = plain(before), plain(after), plain(strengths)
        if self.before.shape != self.after.shape:
            sizes = ["x".join(map(str, side.shape)) for side in (self.before, self.after)]
            raise ValueError(f"before is {sizes[0]}, after is {sizes[1]}; connect as many pictures of the same size")
        if len(self.strengths) != len(self.before):
            raise ValueError(
                f"strengths has {len(self.strengths)} numbers for {len(self.before)} pairs; give one for each pair"
            )
        if not bool((self.strengths.isfinite() & (self.strengths != 0)).all()):
            given = ", ".join(f"{strength:g}" for strength in self.strengths.tolist())
            raise ValueError(
                f"strengths is {given}; each must be a number other than 0, at which a slider does nothing (usually 1)"
            )

    @property
    def states(self) -> Tensor:
        return self.before

    @property
    def given(self) -> tuple[Tensor, ...]:
        return self.before, self.after, self.strengths

    def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]:
        return evenly(rng, len(self.before), count), *self.noise.drawn(rng, count, self.before.shape[1:])

    def loss(self, model: Asked, *drawn: Tensor) -> Tensor:
        rows, sigma, noise = drawn
        after, after_target = self.noise.added(self.after[rows], sigma, noise)
        before, before_target = self.noise.added(self.before[rows], sigma, noise)
        strengths = self.strengths[rows].to(model.device)
        x, levels = torch.cat([after, before]).to(model.device), sigma.repeat(2).to(model.device)
        at_after, at_before = model.trained(x, levels, TARGET, torch.cat([strengths, -strengths])).chunk(2)
        return pair_loss(at_after, at_before, after_target.to(model.device), before_target.to(model.device))
