"""When an effect acts: windows in percent of the model's timestep range, and in σ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

# Relative: a sampler's σ may differ from the schedule's by rounding; a window's first step must not be lost to it.
SAME_LEVEL = 1e-4


def step_of(levels: Sequence[float], sigma: float) -> int | None:
    """The last of a schedule's levels that σ has come to: at or above it, of rising levels at or below it. None for a σ
    before them all."""
    rises = bool(levels) and levels[0] < levels[-1]
    return max((i for i, level in enumerate(levels) if _reached(level, sigma, rises)), default=None)


def _reached(level: float, sigma: float, rises: bool) -> bool:
    return level <= sigma * (1 + SAME_LEVEL) if rises else level >= sigma * (1 - SAME_LEVEL)


class Phase(Enum):
    BEFORE = "before"
    INSIDE = "inside"
    AFTER = "after"


@dataclass(frozen=True)
class Window:
    """Share of the model's timestep range in which an effect acts, 0 (pure noise) to 1 (clean).

    start = end is empty. Raises ValueError for values outside [0, 1], NaN, or a start after the end.
    """

    start_percent: float = 0.0
    end_percent: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start_percent", "end_percent"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise ValueError(f"{name} is {value}; it must be a number from 0 to 1 (0 = first step, 1 = the end)")
        if self.start_percent > self.end_percent:
            raise ValueError(
                f"the window starts after its end: start_percent {self.start_percent} > end_percent "
                f"{self.end_percent}; lower start_percent or raise end_percent"
            )

    @property
    def empty(self) -> bool:
        return self.start_percent == self.end_percent

    def intersect(self, other: Window) -> Window:
        """The part common to both; empty where they do not meet."""
        start = max(self.start_percent, other.start_percent)
        return Window(start, max(start, min(self.end_percent, other.end_percent)))

    def in_sigmas(self, percent_to_sigma: Callable[[float], float]) -> SigmaWindow:
        """The same in the noise levels of a model, which has the conversion."""
        return SigmaWindow(float(percent_to_sigma(self.start_percent)), float(percent_to_sigma(self.end_percent)))


@dataclass(frozen=True)
class SigmaWindow:
    """The same in noise levels: active iff end·(1 + 1e-4) < σ ≤ start·(1 + 1e-4). σ falls as sampling goes on.

    One rule for both edges, so that of two windows that meet exactly one is active at each σ, and a schedule's level
    that equals an edge but for float32 rounding belongs to the window that begins there.
    """

    start: float
    end: float

    def phase(self, sigma: float) -> Phase:
        if sigma > self.start * (1 + SAME_LEVEL):
            return Phase.BEFORE
        return Phase.INSIDE if sigma > self.end * (1 + SAME_LEVEL) else Phase.AFTER

    def steps(self, levels: Sequence[float]) -> int:
        """Of a schedule's steps, from each level to the next, those that begin inside."""
        return sum(self.phase(level) is Phase.INSIDE for level in levels[:-1])


def edges_crossed(windows: Iterable[SigmaWindow], first: float, last: float) -> set[float]:
    """The distinct σ at which some window opens or closes between the first and the last evaluation of a run."""
    edges = set()
    for window in windows:
        before, after = window.phase(first), window.phase(last)
        if before is Phase.BEFORE and after is not Phase.BEFORE:
            edges.add(window.start)
        if before is not Phase.AFTER and after is Phase.AFTER:
            edges.add(window.end)
    return edges
