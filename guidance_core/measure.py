"""How far an edit moved the picture and how wide it was: figures about a finished run, gathered without waiting for the
device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MOST = 0.9  # of an edit's energy: the cells that hold it are where the edit is


@dataclass(frozen=True)
class EditSize:
    """moved: how far the picture went along the edit, as a share of its own norm; None where that is no number.
    share: of the cells, those that hold nine tenths of Σγ²; 0 if γ was always 0, NaN if no number."""

    moved: float | None
    share: float


class EditMeasure:
    """Sums up what each concept did, on the device; `sizes` waits for it, once.

    γ takes σ_t·γ_t off the estimate of the picture at step t, of which a first-order step to σ_{t+1} takes over
    (σ_t − σ_{t+1})·γ_t. With the way that concept i alone would have led, v_i = −Σ_t (σ_t − σ_{t+1})·γ_i,t, the
    estimate x̂_i when it first acted (before its edit) and x̂ at the run's end:
        moved_i = ⟨x̂ − x̂_i, v_i⟩ / (‖v_i‖·‖x̂‖)
    So it counts what the model made of the edit: followed, it is longer than the way itself, taken back, shorter.
    Share and moved are means over the pictures that the concept changed; cells are positions (of all frames of a
    video), their energy is Σ_t Σ_channels γ².
    """

    def __init__(self) -> None:
        self._cells: dict[int, Tensor] = {}
        self._ways: dict[int, Tensor] = {}
        self._begins: dict[int, Tensor] = {}
        self._end: Tensor | None = None

    def add(self, gamma: Mapping[int, Tensor], step: float, before: Tensor, after: Tensor) -> None:
        """One step: γ [B, C, ...] of the concepts that act, σ_t − σ_{t+1}, the estimate before and after the edit."""
        for i, term in gamma.items():
            cells, way = term.float().square().sum(1), -step * term.float()
            self._cells[i] = self._cells[i] + cells if i in self._cells else cells
            self._ways[i] = self._ways[i] + way if i in self._ways else way
            self._begins.setdefault(i, before)
        self._end = after

    def moved(self) -> dict[int, list[float]]:
        """{concept: how far each picture moved along its edit}; no number where the edit is nothing."""
        return {i: self._moved(i).tolist() for i in self._cells}

    def sizes(self) -> dict[int, EditSize]:
        """{concept: its size} of the concepts that acted."""
        found = [_means(cells.flatten(1), self._moved(i)) for i, cells in self._cells.items()]
        rows = torch.stack(found).tolist() if found else []  # the one moment that waits
        return {
            i: EditSize(moved if math.isfinite(moved) else None, share)
            for i, (moved, share) in zip(self._cells, rows, strict=True)
        }

    def _moved(self, i: int) -> Tensor:
        assert self._end is not None  # `add` sets it with the rest
        way, begin, end = (each.float().flatten(1) for each in (self._ways[i], self._begins[i], self._end))
        return ((end - begin) * way).sum(1) / (way.norm(dim=1) * end.norm(dim=1))


def _means(cells: Tensor, moved: Tensor) -> Tensor:
    """Over the pictures that a concept changed: moved [B], and the share of the energies of its cells [B, N]."""
    sums = cells.sum(1)
    changed = sums != 0  # also where it is NaN
    ordered = cells.sort(dim=1, descending=True).values
    before = ordered.cumsum(1) - ordered  # what the stronger cells hold already
    held = (before < MOST * sums[:, None]).float().mean(1)
    count = changed.sum().clamp_min(1)
    share = torch.where(changed, held, 0.0).sum() / count + 0 * sums.sum()  # NaN stays NaN
    return torch.stack([torch.where(changed, moved, 0.0).sum() / count, share])
