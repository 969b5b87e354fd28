"""The base of a direction: which of a guider's conditionings a concept's estimate is compared with."""

from __future__ import annotations

import math
from typing import Any

import torch

from .attention_patches import mixes_outputs

BASES = ("negative", "positive", "empty_negative_prompt")
# Where the host's guidance expects each conditioning's estimate.
OWN_INDEX = {"positive": 0, "negative": 1, "empty_negative_prompt": 1}


def bases_to_copy(guider: Any) -> list[str]:
    """Conditionings of the guider that can be a base, but whose own estimate is not one: the base is an extra copy.

    Limited to an area, mask or range, the host returns exactly 0 outside it. And where a patch mixes the attention
    outputs of positive and negative (NAG), their estimates hold what no concept's has.
    """
    limits = {"area", "mask", "start_percent", "end_percent"}
    mixed = mixes_outputs(guider.model_options)
    conds = {name: guider.conds.get(name) or [] for name in BASES}
    return [name for name in BASES if conds[name] and (mixed or any(limits & cond.keys() for cond in conds[name]))]


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


def is_guided(guider: Any, base: str) -> bool:
    """Whether the guided prediction differs from the base's: not so for the positive alone at cfg 1."""
    return base != "positive" or not cfg_is_one(guider)


def cfg_is_one(guider: Any) -> bool:
    """Whether a guider has no guidance. Its cfg may be no number: a value for each step, as KJNodes' Scheduled CFG
    Guidance keeps it, or none at all; such a guider guides."""
    cfg = getattr(guider, "cfg2", getattr(guider, "cfg", None))  # DualCFG keeps the negative's weight in cfg2
    if isinstance(cfg, torch.Tensor) and cfg.numel() == 1:
        cfg = cfg.item()
    return isinstance(cfg, (int, float)) and math.isclose(cfg, 1.0)
