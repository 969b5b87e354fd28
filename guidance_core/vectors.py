"""Concept vectors: the guidance terms γ_t of one run, kept to be added in others (arXiv:2301.12247, section 3,
"uniqueness": a concept's direction found in one picture edits others).

γ is in noise-estimate units, so that x0 = x0_guided − σ·γ whatever the model predicts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .windows import SAME_LEVEL, step_of

LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


def at_sigma(gamma: Tensor, sigmas: Sequence[float], sigma: float) -> Tensor | None:
    """γ at a noise level, linear in σ between the recorded ones: [B, C, ...].

    gamma: [T, B, C, ...], one row for each of `sigmas`, which fall. A row also stands for what follows the last level.
    None above the first one, where nothing was recorded. At a recorded σ (to 1e-4) the row itself, bit for bit.
    """
    i = step_of(sigmas, sigma)
    if i is None:
        return None
    if i + 1 == len(sigmas) or sigmas[i] <= sigma * (1 + SAME_LEVEL):
        return gamma[i]
    return torch.lerp(gamma[i], gamma[i + 1], (sigmas[i] - sigma) / (sigmas[i] - sigmas[i + 1]))


def resized(gamma: Tensor, size: Sequence[int]) -> Tensor:
    """γ [T, B, C, S...] at other sizes of S (frames, height, width), linearly interpolated."""
    rows = gamma.flatten(0, 1)
    scaled = torch.nn.functional.interpolate(rows, size=tuple(size), mode=LINEAR[rows.ndim], align_corners=False)
    return scaled.reshape(*gamma.shape[:3], *size)
