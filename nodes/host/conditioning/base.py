"""The base of a direction: which of a guider's conditionings a concept's estimate is compared with."""

from __future__ import annotations

import math
from typing import Any

import torch

# Where the host's guidance expects each conditioning's estimate.
OWN_INDEX = {"positive": 0, "negative": 1, "empty_negative_prompt": 1}


def base_name(guider: Any, base: str) -> str:
    """Which conditioning of the guider the concepts' directions start from: decided once for a run, because a direction
    must not turn round where another node changes cfg in the middle of it.

    auto: the negative if the guider has one and cfg ≠ 1, else the positive. PerpNeg's base is its empty prompt.
    """
    negative = "empty_negative_prompt" if guider.conds.get("empty_negative_prompt") else "negative"
    if base == "positive":
        return "positive"
    if base == "negative":
        if not guider.conds.get(negative):
            raise ValueError("base is negative, but this guider has no negative; set base to auto or positive")
        return negative
    return negative if guider.conds.get(negative) and not cfg_is_one(guider) else "positive"


def cfg_is_one(guider: Any) -> bool:
    """Whether a guider has no guidance. Its cfg may be no number: a value for each step, as KJNodes' Scheduled CFG
    Guidance keeps it, or none at all; such a guider guides."""
    cfg = getattr(guider, "cfg2", getattr(guider, "cfg", None))  # DualCFG keeps the negative's weight in cfg2
    if isinstance(cfg, torch.Tensor) and cfg.numel() == 1:
        cfg = cfg.item()
    return isinstance(cfg, (int, float)) and math.isclose(cfg, 1.0)
