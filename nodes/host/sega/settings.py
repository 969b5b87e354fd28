"""What a steered MODEL carries from its node: the concepts, what they share, and where a run says what it did."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ....guidance_core import THRESHOLD_OVER, HeldDirections, Momentum
from ..conditioning.concept import ConceptInput
from ..run.patches import PREFIX, Patch, Use, declare

SEGA = declare(
    Patch(
        f"{PREFIX}sega",
        "SEGA Guidance",
        "SEGA Guidance",
        windowed=True,
        conditionings="one for each concept; one more for a base that does not hold everywhere, or whose context "
        "(ControlNet, guidance, hooks …) is not the concepts'",
        refused={
            Use.TWO_MODELS: "positive and negative come from two models, so their difference is not an edit direction. "
            "Use CFGGuider, or leave its model_negative unconnected"
        },
    )
)

LARGEST_AIM = 10.0


@dataclass(frozen=True)
class SEGASettings:
    """What all concepts of a run share. aim: the size that their edits should have, 0: their scales decide."""

    momentum_scale: float = 0.0
    momentum_beta: float = 0.4
    threshold_over: str = "channel"
    base: str = "auto"
    refresh: int = 1
    aim: float = 0.0

    def __post_init__(self) -> None:
        if self.base not in ("auto", "negative", "positive"):
            raise ValueError(f"base is {self.base!r}; it must be auto, negative or positive")
        if self.threshold_over not in THRESHOLD_OVER:
            choices = f"{', '.join(THRESHOLD_OVER[:-1])} or {THRESHOLD_OVER[-1]}"
            raise ValueError(f"threshold_over is {self.threshold_over!r}; it must be {choices}")
        if not (math.isfinite(self.aim) and 0.0 <= self.aim <= LARGEST_AIM):
            raise ValueError(f"aim is {self.aim}; it must be a number from 0 (off) to {LARGEST_AIM:g} (usually 2)")
        if self.aim > 0 and self.momentum_scale > 0:
            raise ValueError(
                f"aim is {self.aim:g} and momentum_scale {self.momentum_scale:g}: momentum would add to an edit whose "
                "size is given. Set one of them to 0"
            )
        HeldDirections(self.refresh)  # the core's own range checks
        Momentum(self.momentum_scale, self.momentum_beta)

    @property
    def momentum(self) -> Momentum:
        return Momentum(self.momentum_scale, self.momentum_beta)


@dataclass(frozen=True)
class Page:
    """Where a run's verdict is shown: the id of a node (None: the one that is being executed); live: whether that node
    shows the activity at every step."""

    node: str | None = None
    live: bool = False


@dataclass(frozen=True)
class Steering:
    """record: whether a run keeps its activity maps for the node that asked; vectors: and its γ."""

    concepts: tuple[ConceptInput, ...]
    settings: SEGASettings
    page: Page = Page()
    record: bool = False
    vectors: bool = False
