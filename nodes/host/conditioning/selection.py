"""What of a conditioning with several entries holds at a noise level and in a place: as the host selects it."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.samplers
import torch
from torch import Tensor

IN_TIME = frozenset(("start_percent", "end_percent", "clip_start_percent", "clip_end_percent"))
IN_PLACE = frozenset(("area", "mask", "default"))


def limited(cond: dict) -> bool:
    """Whether there is a noise level or a place where the host leaves a conditioning out."""
    return bool(IN_TIME & cond.keys()) or limited_in_place(cond)


def limited_in_place(cond: dict) -> bool:
    return bool(IN_PLACE & cond.keys()) or cond.get("strength") == 0


def holding(conds: Sequence[dict], sigma: float) -> list[int]:
    """Which of the entries of a prepared conditioning hold at σ, by the host's rule (get_area_and_mult)."""
    return [
        i
        for i, cond in enumerate(conds)
        if not ("timestep_start" in cond and sigma > cond["timestep_start"])
        and not ("timestep_end" in cond and sigma < cond["timestep_end"])
    ]


def shares(conds: Sequence[dict], x: Tensor, timestep: Tensor) -> list[Tensor]:
    """The weight of each entry of a prepared conditioning in every cell of x, adding up to 1: the host's own weights
    (areas with their soft edges, masks, strengths, defaults in what the others leave free). Where nothing holds, all
    weigh the same.

    conds: entries that hold at the timestep, at least one. Returns a tensor of x's shape for each.
    """
    weights = [torch.zeros_like(x) for _ in conds]
    for weight, cond in zip(weights, conds, strict=True):
        found = comfy.samplers.get_area_and_mult(cond, x, timestep)
        if "default" in cond or found is None:
            continue
        place = weight
        for axis in range(len(found.area or ()) // 2):
            place = place.narrow(axis + 2, found.area[axis + len(found.area) // 2], found.area[axis])
        place.copy_(found.mult)
    free = (1 - torch.stack(weights).sum(0)).relu()  # as finalize_default_conds has it
    weights = [free if "default" in cond else weight for weight, cond in zip(weights, conds, strict=True)]
    total = torch.stack(weights).sum(0)
    return [torch.where(total > 0, weight / total.clamp_min(1e-30), 1 / len(weights)) for weight in weights]
