"""A prompt's embedding moved along the difference of two texts: a dial without any training."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def along_texts(features: Tensor, plus: Tensor, minus: Tensor, strength: float) -> Tensor:
    """Token by token, each at the length it had.

        c'_t = |c_t| · (c_t + s·(e(positive)_t − e(negative)_t)) / |c_t + s·(e(positive)_t − e(negative)_t)|

    e(c_t) ± η·(e(c₊) − e(c₋)) is equation 8 of Concept Sliders (arXiv:2311.12092) with embeddings for noise estimates.
    Departure: the length. A network was trained on what a text encoder's last norm lets out; moved without it, ±1
    changes five times as much of the picture that is not meant (docs/evaluation-training.md).

    features: c, [..., T, D], or [B, D] of no tokens; plus, minus: [..., T', D] of one text each, or [B, D]. A place
    that one of the three texts lacks is not moved. strength: s, finite; at 0 the result is `features` itself. Raises
    ValueError for another D and for a strength that is no number.
    """
    if not math.isfinite(strength):
        raise ValueError(f"strength is {strength}; it must be a number (usually -2 to 2)")
    widths = sorted({plus.shape[-1], minus.shape[-1]})
    if widths != [features.shape[-1]]:
        raise ValueError(
            f"clip makes embeddings of {' and '.join(map(str, widths))} numbers, those of conditioning have "
            f"{features.shape[-1]}: connect the clip that conditioning was made with"
        )
    if strength == 0:
        return features
    if features.ndim > 2:
        tokens = min(each.shape[-2] for each in (features, plus, minus))
        moved = _moved(features[..., :tokens, :], plus[..., :tokens, :], minus[..., :tokens, :], strength)
        return torch.cat([moved, features[..., tokens:, :]], dim=-2)
    return _moved(features, plus, minus, strength)


def _moved(features: Tensor, plus: Tensor, minus: Tensor, strength: float) -> Tensor:
    own = features.double()
    moved = own + strength * (plus.to(own) - minus.to(own))
    length = moved.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return (moved * (own.norm(dim=-1, keepdim=True) / length)).to(features.dtype)
