"""How strong and how wide an edit was: figures about a finished run, gathered without waiting for the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MOST = 0.9  # of an edit's energy: the cells that hold it are where the edit is


@dataclass(frozen=True)
class EditSize:
    """ratio: ‖γ‖ over the norm of what it was compared with, over all its steps; share: of the cells, those that hold
    nine tenths of Σγ²."""

    ratio: float
    share: float


class EditMeasure:
    """Sums of γ² and of what it is compared with, element by element; `sizes` reduces them once and waits once.

    With G_t the reference of step t (the guidance, or the noise estimate where there is no guidance) and the sums over
    the steps in which concept i acted: ratio_i = √(Σ_t ‖γ_i,t‖² / Σ_t ‖G_t‖²), over the whole batch. The share is
    counted picture by picture: cells are positions (of all frames of a video), their energy is Σ_t Σ_channels γ².
    """

    def __init__(self) -> None:
        self._edits: dict[int, Tensor] = {}
        self._references: dict[int, Tensor] = {}

    def add(self, gamma: Mapping[int, Tensor], reference: Tensor) -> None:
        """One step: γ [B, C, ...] of the concepts that act, and what they are compared with, of the same shape."""
        squared = reference.float().square()
        for i, term in gamma.items():
            if i in self._edits:
                self._edits[i].addcmul_(term.float(), term.float())
                self._references[i].add_(squared)
            else:
                self._edits[i], self._references[i] = term.float().square(), squared.clone()

    def sizes(self) -> dict[int, EditSize]:
        """{concept: its size} of the concepts that acted; a ratio is 0 where there is nothing to compare with."""
        if not self._edits:
            return {}
        edits = torch.stack(list(self._edits.values()))  # [K, B, C, ...]
        references = torch.stack(list(self._references.values()))
        ratio = (edits.flatten(1).sum(1) / references.flatten(1).sum(1)).sqrt()
        cells = edits.sum(2).flatten(2).sort(dim=2, descending=True).values  # [K, B, N]
        before = cells.cumsum(2) - cells  # what the stronger cells hold already
        held = (before < MOST * cells.sum(2, keepdim=True)).float().mean((1, 2))
        figures = torch.stack([ratio, held]).cpu().nan_to_num(0.0, 0.0).tolist()  # the one moment that waits
        return {i: EditSize(*pair) for i, pair in zip(self._edits, zip(*figures, strict=True), strict=True)}
