"""The texts of a slider as the model is asked with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..conditioning.checks import check_clip, check_poles_differ
from ..conditioning.concept import Conditioning
from .asked_by import alike
from .text import MINUS, PLUS, TARGET


def encoded(clip: Any, text: str) -> Conditioning:
    """What CLIP Text Encode makes of it."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def texts(target: str, positive: str, negative: str, preserve: str) -> dict[str, str]:
    """{name that the objectives ask by: text}. preserve: one text a line, each beside both poles.

    Raises ValueError for a pole without text and a preserved text that is a pole.
    """
    poles = {"positive": positive.strip(), "negative": negative.strip()}
    for name, text in poles.items():
        if not text:
            raise ValueError(
                f"{name} has no text: write what the slider should lead to at {'+1' if name == 'positive' else '-1'}, "
                'such as "a very old person" in positive and "a very young person" in negative'
            )
    kept = list(dict.fromkeys(line.strip() for line in preserve.splitlines() if line.strip()))
    for text in kept:
        pole = next((name for name, other in poles.items() if other.casefold() == text.casefold()), None)
        if pole is not None:
            raise ValueError(
                f"preserve holds {text!r}, which is {pole}: what the slider changes cannot be what it leaves alone. "
                "Take the line out"
            )
    found = {TARGET: target}
    for i, text in enumerate(kept or [""]):
        for sign, pole in ((PLUS, poles["positive"]), (MINUS, poles["negative"])):
            found[f"{sign} {i}"] = f"{pole}, {text}" if text else pole
    return found


def conditionings(clip: Any, by_name: dict[str, str]) -> dict[str, Conditioning]:
    """{name: conditioning} of such texts. Raises ValueError for a missing text encoder, and poles that it reads
    alike."""
    check_clip(clip)
    found = {name: encoded(clip, text) for name, text in by_name.items()}
    plus, minus = f"{PLUS} 0", f"{MINUS} 0"
    check_poles_differ(alike(found[plus], found[minus]), by_name[plus], by_name[minus])
    return found


def batched(each: list[Conditioning]) -> Conditioning:
    """One text in several encodings, as the rows of a batch."""

    def rows(values: list[Any]) -> Any:
        return torch.cat(values) if isinstance(values[0], torch.Tensor) else values[0]

    return [
        [
            rows([own for own, _ in entries]),
            {key: rows([options[key] for _, options in entries]) for key in entries[0][1]},
        ]
        for entries in zip(*each, strict=True)
    ]


def preserved(by_name: Mapping[str, object]) -> int:
    """How many texts stand beside the poles."""
    return (len(by_name) - 1) // 2
