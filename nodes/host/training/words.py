"""The texts of a slider as the model is asked with them."""

from __future__ import annotations

from typing import Any

from ..conditioning.checks import check_clip, check_poles_differ
from ..conditioning.concept import Conditioning
from .asked_by import alike
from .text import TARGET


def encoded(clip: Any, text: str) -> Conditioning:
    """What CLIP Text Encode makes of it."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def conditionings(clip: Any, target: str, positive: str, negative: str, preserve: str) -> dict[str, Conditioning]:
    """{name that TextObjective asks by: conditioning}. preserve: one text a line, each beside both poles.

    Raises ValueError for a pole without text, poles that the model reads alike, and a preserved text that is a pole.
    """
    check_clip(clip)
    poles = {"positive": positive.strip(), "negative": negative.strip()}
    for name, text in poles.items():
        if not text:
            raise ValueError(
                f"{name} has no text: write what the slider should lead to at {'+1' if name == 'positive' else '-1'}, "
                'such as "a very old person" in positive and "a very young person" in negative'
            )
    plus, minus = (encoded(clip, text) for text in poles.values())
    check_poles_differ(alike(plus, minus), positive, negative)
    kept = list(dict.fromkeys(line.strip() for line in preserve.splitlines() if line.strip()))
    for text in kept:
        pole = next((name for name, other in poles.items() if other.casefold() == text.casefold()), None)
        if pole is not None:
            raise ValueError(
                f"preserve holds {text!r}, which is {pole}: what the slider changes cannot be what it leaves alone. "
                "Take the line out"
            )
    found = {TARGET: encoded(clip, target)}
    for i, text in enumerate(kept or [""]):
        found |= {
            f"{sign} {i}": encoded(clip, f"{pole}, {text}") if text else pole_alone
            for sign, pole, pole_alone in (("plus", poles["positive"], plus), ("minus", poles["negative"], minus))
        }
    return found


def preserved(conds: dict[str, Conditioning]) -> int:
    """How many texts stand beside the poles."""
    return (len(conds) - 1) // 2
