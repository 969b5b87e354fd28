"""An edit of a wanted size: the scale that each evaluation needs for it (ours)."""

from __future__ import annotations

from torch import Tensor


def scale_for(
    aim: float | Tensor, edit: Tensor, sigma: float, estimate: Tensor, begin: Tensor, largest: float
) -> Tensor:
    """s [B] in [0, largest] with which the edited estimate lies `aim` of its norm along the edit.

    With the edit d at scale 1 (its γ, thresholded), the present estimate x̂ and x̂_0 where the concept began, the
    edited estimate x̂ − σ·s·d has gone ⟨x̂_0 − x̂, d⟩/‖d‖ + σ·s·‖d‖ along −d since then, which is aim·‖x̂‖ for
        s = (aim·‖x̂‖ − ⟨x̂_0 − x̂, d⟩/‖d‖) / (σ·‖d‖)
    A concept that the model takes up by itself gets less in the steps that follow, one that it resists gets more.

    aim: one number, or [B]; edit, estimate, begin: [B, C, ...]; σ > 0 in the model's own units. 0 where there is no
    edit.
    """
    d, now, first = (each.float().flatten(1) for each in (edit, estimate, begin))
    size = d.norm(dim=1)
    gone = ((first - now) * d).sum(1) / size
    scale = (aim * now.norm(dim=1) - gone) / (sigma * size)
    return scale.nan_to_num(0.0, 0.0, 0.0).clamp(0.0, largest)


def own_size(edit: Tensor, sigma: float, estimate: Tensor) -> Tensor:
    """How large a concept is where it begins, [B]: σ·‖d‖/‖x̂‖, what it alone makes of the estimate at scale 1."""
    return sigma * edit.float().flatten(1).norm(dim=1) / estimate.float().flatten(1).norm(dim=1)
