"""Conditionings moved along the difference of two texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ....guidance_core import along_texts
from .checks import check_clip, check_encoded, check_poles_differ
from .concept import Conditioning

FEATURES, POOLED = "cond", "pooled_output"
# What encoders of a second kind add (HiDream's Llama, Hunyuan's ByT5).
MORE = "conditioning_"


def moved(conditioning: Conditioning, clip: Any, positive: str, negative: str, strength: float) -> Conditioning:
    """Each entry's text features, those of further encoders and the pooled ones; whatever else an entry has stays.

    Raises ValueError for texts that are empty or alike to this encoder, a clip of another width and a strength that is
    no number.
    """
    check_clip(clip)
    for name, text in (("positive", positive), ("negative", negative)):
        if not text.strip():
            raise ValueError(
                f"{name} has no text: write your prompt into positive and negative, with what should change said once "
                "this and once the other way"
            )
    check_encoded(conditioning=conditioning)
    plus, minus = (features(clip, clip.tokenize(text)) for text in (positive, negative))
    alike = plus.keys() == minus.keys() and all(_same(plus[key], minus[key]) for key in plus)
    check_poles_differ(alike, positive, negative)

    def along(own: Any, key: str) -> Any:
        given = isinstance(own, Tensor) and key in plus and key in minus  # some models need no text features
        return along_texts(own, plus[key], minus[key], strength) if given else own

    found = [
        [along(own, FEATURES), {key: along(value, key) for key, value in options.items()}]
        for own, options in conditioning
    ]
    return conditioning if strength == 0 else found


def features(clip: Any, tokens: Any) -> dict[str, Tensor]:
    """{name: what a text encoder makes of tokens}, the names as in a conditioning."""
    made = clip.encode_from_tokens(tokens, return_pooled=True, return_dict=True)
    return {
        key: value
        for key, value in made.items()
        if isinstance(value, Tensor) and (key in (FEATURES, POOLED) or key.startswith(MORE))
    }


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)
