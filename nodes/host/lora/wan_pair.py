"""Wan 2.2's two models, one for high and one for low noise: which of them a LoRA was trained for."""

from __future__ import annotations

import json
import re
from typing import Any

import comfy.model_base

from ..page.messages import message

NOISE = re.compile(r"(?<![a-z])(high|low)[ _-]?noise")
# In a file's name alone: "…_HIGH_fp16", but not "high_quality".
ALONE = re.compile(
    r"(?<![a-z])(high|low)(?![a-z])(?![ _-]?(?:res|quality|detail|key|angle|contrast|poly|light|fps|motion))"
)


def made_for(model: Any, name: str, metadata: dict[str, str]) -> str:
    """'for the high-noise model (by its name)', or nothing where neither name nor metadata tell. metadata: that of the
    file's header. Other families have no such pair."""
    if not isinstance(model.model, comfy.model_base.WAN21):
        return ""
    lower = _words_apart(name)
    for source, found in (
        ("name", set(NOISE.findall(lower)) or set(ALONE.findall(lower))),
        ("metadata", set(NOISE.findall(_words_apart(json.dumps(metadata))))),
    ):
        if len(found) == 1:
            return message(f"for_{found.pop()}_noise", source=source)
    return ""


def _words_apart(text: str) -> str:
    """'HighNoise' as 'high noise'."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()
