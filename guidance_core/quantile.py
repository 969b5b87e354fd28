"""Exact quantiles of large tensors (torch.quantile stops at 16 M elements)."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_quantile(rows: Tensor, q: Tensor, count: Tensor | None = None) -> Tensor:
    """The q-quantile of each row, linearly interpolated at rank q·(N − 1).

    rows: [..., N] float; with `count` only the `count` smallest elements of a row belong to it (put +inf into the
    others). q: float64, broadcastable to rows.shape[:-1], in [0, 1]; count: integers likewise, ≥ 1.
    Returns rows.shape[:-1] in the dtype of rows. Ranks are computed in float64. Oracle: numpy.quantile.
    """
    ordered = rows.sort(dim=-1).values
    # Ranks on the CPU: some accelerators have no float64.
    last = torch.as_tensor(rows.shape[-1] if count is None else count).cpu().double() - 1
    rank = (q.cpu().double() * last).expand(rows.shape[:-1])
    lower = rank.floor()
    upper = torch.minimum(lower + 1, last)
    low, high = (ordered.gather(-1, index.long().unsqueeze(-1).to(rows.device)).squeeze(-1) for index in (lower, upper))
    return torch.lerp(low, high, (rank - lower).to(rows.dtype).to(rows.device))
