"""How strong and how wide an edit was: figures about a finished run, gathered without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MOST = 0.9  # of an edit's energy: the cells that hold it are where the edit is
LARGEST_RATIO = 100.0  # above it what the edit is compared with is no more than rounding


@dataclass(frozen=True)
class EditSize:
    """ratio: ‖γ‖ over the norm of what it was compared with, over all its steps; None where that is no number or next
    to nothing. share: of the cells, those that hold nine tenths of Σγ²; 0 if γ was always 0, NaN if no number."""

    ratio: float | None
    share: float


def energy(reference: Tensor) -> Tensor:
    """‖·‖² of each sample, [B]: what an edit is compared with in a step."""
    return reference.float().flatten(1).square().sum(1)


class EditMeasure:
    """Sums up γ² on the device, cell by cell; `sizes` waits for it, once.

    With G_t the reference of step t (the guidance, or the noise estimate where there is no guidance) and the sums over
    the steps in which concept i acted and the pictures that it changed: ratio_i = √(Σ‖γ_i,t‖² / Σ‖G_t‖²). The share is
    the mean over these pictures: cells are positions (of all frames of a video), their energy is Σ_t Σ_channels γ².
    """

    def __init__(self) -> None:
        self._edits: dict[int, Tensor] = {}
        self._references: dict[int, Tensor] = {}

    def add(self, gamma: Mapping[int, Tensor], reference: Tensor) -> None:
        """One step: γ [B, C, ...] of the concepts that act, and the `energy` of what they are compared with."""
        for i, term in gamma.items():
            cells = term.float().square().sum(1)
            self._edits[i] = self._edits[i] + cells if i in self._edits else cells
            self._references[i] = self._references[i] + reference if i in self._references else reference

    def sizes(self) -> dict[int, EditSize]:
        """{concept: its size} of the concepts that acted."""
        found = [_figures(self._edits[i].flatten(1), self._references[i]) for i in self._edits]
        rows = torch.stack(found).tolist() if found else []  # the one moment that waits
        return {
            i: EditSize(_ratio(edit, whole), share) for i, (edit, whole, share) in zip(self._edits, rows, strict=True)
        }


def _figures(cells: Tensor, references: Tensor) -> Tensor:
    """Σ‖γ‖², Σ‖G‖² and the share, of the energies of a concept's cells [B, N] and of its references [B]."""
    sums = cells.sum(1)
    changed = (sums != 0).float()
    ordered = cells.sort(dim=1, descending=True).values
    before = ordered.cumsum(1) - ordered  # what the stronger cells hold already
    held = (before < MOST * sums[:, None]).float().mean(1)
    share = (held * changed).sum() / changed.sum().clamp_min(1) + 0 * sums.sum()  # NaN stays NaN
    return torch.stack([sums.sum(), (references * changed).sum(), share])


def _ratio(edit: float, reference: float) -> float | None:
    ratio = math.sqrt(edit / reference) if reference > 0 else math.nan
    return ratio if ratio <= LARGEST_RATIO else None  # nor where it is NaN
