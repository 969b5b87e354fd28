"""What SEGA did in a run, in words for the node: which steps, how strong, where, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ....guidance_core import EditSize
from .messages import Message, input_name, joined, lines, message

# Below the first ratio an edit is mostly not seen, above the second much else changes: of the guidance, and of the
# prediction where there is no guidance (guided), for bare texts and for those in the context of the picture's prompt
# (in_prompt). Measured on the portraits model (docs/evaluation.md).
BOUNDS = {
    (True, False): (0.3, 1.5),
    (False, False): (0.03, 0.3),
    (True, True): (0.25, 1.5),
    (False, True): (0.02, 0.15),
}


def concept_input(name: str) -> Message:
    """An input of a concept's node, as the page calls it."""
    return input_name("SEGAConcept", name)


RAISE_SCALE = message("raise", input=concept_input("scale"))
LOWER_SCALE = message("lower", input=concept_input("scale"))
LOWER_THRESHOLD = message("lower", input=concept_input("threshold"))
RAISE_THRESHOLD = message("raise", input=concept_input("threshold"))
START_EARLIER = message("start_earlier")


def window_message(key: str, node_id: str = "SEGAConcept") -> Message:
    """What to do about a window that no step of a run lies in."""
    return message(key, start=input_name(node_id, "start_percent"), end=input_name(node_id, "end_percent"))


NO_STEP = window_message("window_without_step")
MASK_BLACK = message("mask_black")


@dataclass(frozen=True)
class Acted:
    """One concept of a finished run. steps: of the run's steps those in its window, None if it was switched off, for
    the reason `off`; size: of its edit, None if it never acted; swept: with another scale for each picture; base: what
    it was compared with; stronger: what would make more of it; missed: what to do where its window holds no step;
    in_prompt: whether it was measured in the context of the picture's prompt."""

    name: str
    steps: int | None = None
    size: EditSize | None = None
    swept: bool = False
    base: str = "positive"
    stronger: tuple[Message, ...] = (RAISE_SCALE, LOWER_THRESHOLD, START_EARLIER)
    missed: Message = NO_STEP
    in_prompt: bool = False
    off: Message = MASK_BLACK


@dataclass
class Evaluations:
    """Conditionings that the model was asked for in a run: the guider's own, and all that SEGA added."""

    own: int = 0
    added: int = 0
    pending: bool = False  # whether the present evaluation's own are still to be counted

    def begin(self) -> None:
        """The guider is asked for a prediction."""
        self.pending = True

    def count_own(self, conditionings: int) -> None:
        """What the guider asks the model for; of several calls of one evaluation (windows, further guidance) the
        first."""
        if self.pending:
            self.own, self.pending = self.own + conditionings, False

    @property
    def text(self) -> Message:
        if self.own:
            return message("cost", percent=f"{100 * self.added / self.own:.0f}")
        return message("cost_count", count=self.added)


def verdict(
    concepts: Sequence[Acted], steps: int, evaluations: Evaluations, guided: bool, notes: Sequence[Message] = ()
) -> Message:
    """A line for each concept, what to change under those that act too little or too much to be seen as wanted, and the
    cost in the last line if there are several.

    steps: of the run; guided: whether the sizes are compared with the guidance (else with the noise estimate); notes:
    what else the user should know, a line each.
    """
    said: list[str] = []
    for concept in concepts:
        name = message("in_prompt", name=concept.name) if concept.in_prompt else concept.name
        what = _what(concept, steps, guided)
        if len(concepts) == 1:
            what.append(evaluations.text)
        said.append(message("named", name=name, what=joined("comma", what)))
        advice = _advice(concept, guided)
        if advice is not None:
            said.append(message("advice", advice=advice))
    if len(concepts) != 1:
        said.append(evaluations.text)
    return lines([*said, *notes])


def _what(concept: Acted, steps: int, guided: bool) -> list[Message]:
    if concept.steps is None:
        return [message("switched_off")]
    said = [message("active", steps=concept.steps, total=steps)]
    if concept.size is None or not concept.size.share > 0:
        return said
    if concept.size.ratio is not None:
        key = "edit_of_guidance" if guided else "edit_of_prediction"
        said.append(message(key, ratio=f"{concept.size.ratio:.2g}"))
    return [*said, message("share", percent=f"{100 * concept.size.share:.0f}")]


def _advice(concept: Acted, guided: bool) -> Message | None:
    if concept.steps is None:
        return concept.off
    if concept.steps == 0:
        return concept.missed
    if concept.size is not None and math.isnan(concept.size.share):
        what = joined("or", [*(["cfg"] if guided else []), concept_input("scale")])
        return message("not_numbers", what=what)
    if concept.size is None or concept.size.share == 0:
        return message("no_difference", base=concept.base)
    if concept.size.ratio is None or concept.swept:
        return None
    faint, heavy = BOUNDS[guided, concept.in_prompt]
    if concept.size.ratio < faint:
        return message("too_weak", ways=joined("or", concept.stronger or [message("other_text")]))
    if concept.size.ratio > heavy:
        return message("too_strong", ways=joined("or", [LOWER_SCALE, RAISE_THRESHOLD]))
    return None
