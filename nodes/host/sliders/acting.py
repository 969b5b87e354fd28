"""A slider in one run, and how the ways of acting join it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension

from ....guidance_core import Phase, SigmaWindow
from ..run.patches import PREFIX

RUN_KEY = f"{PREFIX}sliders.run"


@dataclass(frozen=True)
class ActingSlider:
    """A slider in one run. patches: the host's, by weight; strengths: one, or one a picture; window: in σ."""

    patches: dict[Any, Any]
    strengths: tuple[float, ...]
    window: SigmaWindow
    positive_only: bool


Acting = tuple[bool, ...]  # for each slider, whether σ is inside its window


def acting_at(sliders: Sequence[ActingSlider], sigma: float) -> Acting:
    return tuple(slider.window.phase(sigma) is Phase.INSIDE for slider in sliders)


def register(guider: Any, wrappers: dict[str, Any]) -> None:
    """The guider keeps its model options, and these wrappers in them, for this run only."""
    for kind, wrapper in wrappers.items():
        comfy.patcher_extension.add_wrapper_with_key(
            kind, RUN_KEY, wrapper, guider.model_options, is_model_options=True
        )
