"""What is kept of a run: for its verdict, and for the node that asked for activity and vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ....guidance_core import EditMeasure
from ..conditioning.concept import ConceptInput
from ..page.messages import Message, message
from ..page.previews import live_activity
from ..page.progress import show_preview
from ..page.verdict import MASK_BLACK, Acted, Evaluations, verdict, window_message
from .activity import Activity
from .settings import Steering
from .vectors import Recorder


@dataclass(frozen=True)
class Finding:
    """What one evaluation found. gamma: γ by the concept's place among all that were given; nu: the momentum that would
    follow, by its place among those that act; step: the length of its sampler step; before, after: the estimate without
    and with the edit."""

    gamma: dict[int, Tensor]
    nu: dict[int, Tensor]
    step: float
    before: Tensor
    after: Tensor


class Report:
    """Sums up a run. given: all concepts; shape: the latent's; layout: its format. Everything is by a concept's place
    among those given.

    guided: whether there is a guidance; notes: further lines of the verdict. Both are known once the run begins.
    """

    def __init__(self, steering: Steering, shape: torch.Size, layout: Any):
        self.given, self.page = steering.concepts, steering.page
        self.shape, self.layout = shape, layout
        self.measure, self.evaluations, self.guided = EditMeasure(), Evaluations(), True
        self.notes: list[Message] = []
        self.recorder = Recorder() if steering.vectors else None
        # Sound has no picture to show it over.
        maps = steering.record or (steering.page.live and len(shape) >= 4)
        self.activity = Activity(len(self.given)) if maps else None

    def note(self, sigma: float, finding: Finding) -> None:
        """An evaluation, whether its step counts or not."""
        if self.recorder is not None and sigma > 0:
            self.recorder.add(sigma, finding.gamma)

    def commit(self, finding: Finding) -> None:
        """A sampler step is over."""
        self.measure.add(finding.gamma, finding.step, finding.before, finding.after)
        if self.activity is None:
            return
        self.activity.add(finding.gamma)
        if self.page.node is not None and self.page.live:
            maps = self.activity.maps(self.shape, (self.shape[-2], self.shape[-1]))
            titles = [entry.title for entry in self.given]
            show_preview(live_activity(self.layout, finding.before, maps, titles), self.page.node)

    def verdict(
        self, active: Mapping[int, Acted], steps: int, again: Sequence[Message], result: Tensor | None
    ) -> Message:
        """What the finished run did, for people. active: for each concept that could act, by its place, all but its
        size; steps: of the run; again: lines about what was evaluated once more; result: of the run. Waits for the
        device."""
        sizes = self.measure.sizes()
        acted = [
            replace(active[place], size=sizes.get(place)) if place in active else switched_off(entry)
            for place, entry in enumerate(self.given)
        ]
        return verdict(acted, steps, self.evaluations, self.guided, [*self.notes, *again], result)


def switched_off(entry: ConceptInput) -> Acted:
    """A concept that can change nothing, and why."""
    if entry.whole_window.empty:
        return Acted(entry.title, off=window_message("window_empty"))
    if not entry.neutral:
        return Acted(entry.title, off=MASK_BLACK)
    scaled = any(entry.scale) if isinstance(entry.scale, tuple) else entry.scale
    return Acted(entry.title, off=message("strength_zero" if scaled else "scale_zero"))


def at_rest(concepts: Sequence[ConceptInput]) -> Message:
    """What is said where none of the concepts can change anything."""
    if not concepts:
        return message("no_concepts")
    return verdict([switched_off(entry) for entry in concepts], 0, Evaluations(), True)
