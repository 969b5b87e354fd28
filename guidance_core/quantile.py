"""Exact quantiles of large tensors (torch.quantile stops at 16 M elements and sorts)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .devices import few_to

WITH_FLOAT64 = ("cpu", "cuda", "meta")  # others (MPS, some of Intel's) may lack it


def sample_quantile(rows: Tensor, q: Tensor, inside: Tensor | None = None) -> Tensor:
    """The q-quantile of each row, linearly interpolated at rank q·(N − 1).

    rows: [..., N] float; inside: bool likewise, which elements of a row belong to it (at least one; None = all);
    q: float64 on the CPU, broadcastable to rows.shape[:-1], in [0, 1].
    Returns rows.shape[:-1] in the dtype of rows. Ranks are computed in float64. Oracle: numpy.quantile.

    Only the elements between the ranks and the nearer end are selected and put in order: at SEGA's usual thresholds a
    tenth of a row or less. Nothing is read back from the device, but for the counts of `inside` where it may have no
    float64.
    """
    size, device = rows.shape[-1], rows.device
    smallest, largest = float(q.min()), float(q.max())
    from_top = smallest + largest > 1
    if inside is None:
        last = torch.tensor(size - 1, dtype=torch.float64)
    else:
        rows = rows.masked_fill(~inside, -math.inf if from_top else math.inf)
        # Ranks where the counts are, if float64 exists there.
        counts = inside.sum(-1).clamp_min(1)
        last = (counts if device.type in WITH_FLOAT64 else counts.cpu()).double() - 1
    rank = few_to(q, last.device) * last
    lower = rank.floor()
    weight = few_to((rank - lower).to(rows.dtype), device)
    end = last - lower if from_top else lower
    at = few_to(end.long(), device).expand(rows.shape[:-1]).unsqueeze(-1)
    if from_top:
        # What whole rows need is enough for parts of them: m − ⌊q·m⌋ does not fall with m, in float64 too (to 2²⁷).
        ordered = rows.topk(size - math.floor(smallest * (size - 1))).values
        following = (at - 1).clamp_min(0)
    else:
        ordered = rows.topk(min(size, math.floor(largest * (size - 1)) + 2), largest=False).values
        following = torch.minimum(at + 1, few_to(last.long(), device).expand(rows.shape[:-1]).unsqueeze(-1))
    low, high = ordered.gather(-1, at).squeeze(-1), ordered.gather(-1, following).squeeze(-1)
    return torch.lerp(low, high, weight)
