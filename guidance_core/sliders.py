"""Concept sliders (Gandikota et al., 2024, arXiv:2311.12092): low-rank directions of a model's weights, with a dial.

A slider changes a layer's weight to W + s·ΔW with ΔW = (α/r)·B·A: A (down) reads r numbers from the layer's input,
B (up) writes them to its output, s is the strength (the paper's LoRA scaling factor; below 0 = the opposite). Applied
to the layer's output instead of its weight, several sliders are one product:

    y = W x + Σ_i s_i (α_i/r_i) B_i A_i x = W x + B·diag(s)·A x,   A = [A_1; …; A_n],  B = [(α_i/r_i) B_i]_i

Also known as: LoRA sliders. Not to be confused with a LoRA of a subject or style, whose strength below 0 means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)


@dataclass(frozen=True)
class LowRank:
    """One slider's part in one layer. up: B [out, r]; down: A [r, in] or, for a convolution, [r, in, *kernel];
    factor: α/r; start: the first of the layer's outputs that B writes to (fused layers)."""

    up: Tensor
    down: Tensor
    factor: float
    start: int = 0


def fuse_middle(down: Tensor, middle: Tensor) -> Tensor:
    """A of a LoRA in Tucker form, whose kernel stands in a middle factor: A[o, i, …] = Σ_m middle[o, m, …]·down[m, i].

    down: [r, in] or [r, in, 1, …]; middle: [r, r, *kernel]; returns [r, in, *kernel].
    """
    return torch.einsum("om...,mi->oi...", middle, down.flatten(1))


def concatenate(parts: Sequence[LowRank], features: int) -> tuple[Tensor, Tensor]:
    """(A [R, …], B [features, R]) of all parts together, R the sum of their ranks."""
    total = sum(part.down.shape[0] for part in parts)
    up = parts[0].up.new_zeros(features, total)
    column = 0
    for part in parts:
        rows, rank = part.up.shape
        up[part.start : part.start + rows, column : column + rank] = part.factor * part.up
        column += rank
    return torch.cat([part.down for part in parts]), up


def low_rank_sum(x: Tensor, down: Tensor, up: Tensor, strengths: Tensor, **convolution: Any) -> Tensor:
    """B·diag(s)·A x, what the sliders add to a layer's output.

    x: [N, …, in], or [N, in, …] for a convolution; down, up: from `concatenate`; strengths: s of each column, [N, R] or
    [1, R]; convolution: stride, padding and dilation of the layer.
    """
    if down.ndim == 2:
        inner = F.linear(x, down)
        return F.linear(inner * strengths.reshape(len(strengths), *[1] * (inner.ndim - 2), -1), up)
    convolve, ones = CONVOLUTIONS[down.ndim - 3], [1] * (down.ndim - 2)
    inner = convolve(x, down, **convolution)
    return convolve(inner * strengths.reshape(*strengths.shape, *ones), up.reshape(*up.shape, *ones))
