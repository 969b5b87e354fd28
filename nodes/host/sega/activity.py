"""Where each concept acted: the share of channels with γ ≠ 0, averaged over its steps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Activity:
    """Sums up committed steps; read once after the run. total: concepts that were given; those that never act stay
    silent."""

    def __init__(self, total: int):
        self.total = total
        self._sums: dict[int, Tensor] = {}
        self._steps: dict[int, int] = {}

    def add(self, gamma: Mapping[int, Tensor]) -> None:
        """One committed step's γ [B, C, ..., h, w] of the concepts inside their window, by their place among all."""
        for place, term in gamma.items():
            share = (term != 0).float().mean(1)
            self._sums[place] = self._sums[place] + share if place in self._sums else share
            self._steps[place] = self._steps.get(place, 0) + 1

    def maps(self, shape: torch.Size, size: tuple[int, int]) -> Tensor:
        """[B·K, H, W] in [0, 1], picture by picture, then concept; frames of a video are averaged.

        shape: the latent's [B, C, ..., h, w]; size: the picture's (H, W).
        """
        silent = torch.zeros(shape[0], *shape[2:])
        means = [self._sums[i].cpu() / self._steps[i] if i in self._sums else silent for i in range(self.total)]
        stacked = torch.stack(means, dim=1)  # [B, K, ..., h, w]
        cells = stacked.flatten(2, -3).mean(2) if stacked.ndim > 4 else stacked
        return torch.nn.functional.interpolate(cells, size=size, mode="nearest").flatten(0, 1)
