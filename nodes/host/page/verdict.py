"""What SEGA did in a run, in words for the node: which steps, how strong, where, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ....guidance_core import EditSize
from .messages import Message, input_name, joined, lines, message
from .no_numbers import advice_on, not_numbers

# Of how far the picture moved along an edit, as a share of its norm: below UNSEEN it is mostly not seen, from CLEAR on
# mostly seen, in between sometimes. Above TOO_FAR, without guidance, other things change too; with guidance no bound
# says so well enough. Measured on the portraits model (docs/evaluation.md).
UNSEEN, CLEAR, TOO_FAR = 0.05, 0.17, 0.35
FEW_STEPS = 3


def concept_input(name: str) -> Message:
    """An input of a concept's node, as the page calls it."""
    return input_name("SEGAConcept", name)


RAISE_SCALE = message("raise", input=concept_input("scale"))
LOWER_SCALE = message("lower", input=concept_input("scale"))
LOWER_THRESHOLD = message("lower", input=concept_input("threshold"))
RAISE_THRESHOLD = message("raise", input=concept_input("threshold"))
START_EARLIER = message("start_earlier")
IS_IT_THERE = message("is_it_there")


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
    in_prompt: whether it was measured in the context of the picture's prompt; scales: the least and the largest one
    that it got for a wanted size; hints: about the concept itself."""

    name: str
    steps: int | None = None
    size: EditSize | None = None
    swept: bool = False
    base: str = "positive"
    stronger: tuple[Message, ...] = (RAISE_SCALE, LOWER_THRESHOLD, START_EARLIER)
    missed: Message = NO_STEP
    in_prompt: bool = False
    off: Message = MASK_BLACK
    scales: tuple[float, float] | None = None
    hints: tuple[str, ...] = ()


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
    concepts: Sequence[Acted], steps: int, evaluations: Evaluations, guided: bool, notes: Sequence[Message] = (),
    result: Tensor | None = None,
) -> Message:  # fmt: skip
    """A line for each concept, what to change under those that act too little or too much to be seen as wanted, and the
    cost in the last line if there are several.

    steps: of the run; guided: whether there is a guidance; notes: what else the user should know, a line each; result:
    of the run.
    """
    said: list[str] = []
    for concept in concepts:
        name = message("in_prompt", name=concept.name) if concept.in_prompt else concept.name
        what = _what(concept, steps)
        if len(concepts) == 1:
            what.append(evaluations.text)
        said.append(message("named", name=name, what=joined("comma", what)))
        said += [message("advice", advice=advice) for advice in _advice(concept, guided)]
    if len(concepts) != 1:
        said.append(evaluations.text)
    told = any(concept.size is not None and math.isnan(concept.size.share) for concept in concepts)
    broken = [] if result is None or told else advice_on(result, _strongest(guided))
    return lines([*said, *notes, *broken])


def _strongest(guided: bool) -> list[str]:
    return [*(["cfg"] if guided else []), concept_input("scale")]


def _what(concept: Acted, steps: int) -> list[Message]:
    if concept.steps is None:
        return [message("switched_off")]
    said = [message("active", steps=concept.steps, total=steps)]
    if concept.size is None or not concept.size.share > 0:
        return said
    if concept.scales is not None:
        low, high = (f"{scale:.2g}" for scale in concept.scales)
        said.append(message("scales", low=low, high=high))
    if concept.size.moved is not None:
        said.append(message("moved", percent=f"{100 * concept.size.moved:.0f}"))
    return [*said, message("within", percent=f"{100 * concept.size.share:.0f}")]


def _advice(concept: Acted, guided: bool) -> list[str]:
    if concept.steps is None:
        return [concept.off]
    if concept.steps == 0:
        return [concept.missed]
    size, hints = concept.size, [*concept.hints]
    if size is not None and math.isnan(size.share):
        return [not_numbers(_strongest(guided))]
    if size is None or size.share == 0:
        return [*hints, message("no_difference", base=concept.base)]
    if size.moved is None or concept.swept:
        return hints
    if size.moved < UNSEEN:
        if concept.steps < FEW_STEPS:
            hints.append(message("few_steps", count=concept.steps))
        return [*hints, message("too_weak", ways=joined("or", concept.stronger or [message("other_text")]))]
    if not guided and size.moved > TOO_FAR:
        return [*hints, message("too_strong", ways=joined("or", [LOWER_SCALE, RAISE_THRESHOLD]))]
    return hints if size.moved >= CLEAR else [*hints, message("seen_sometimes")]
