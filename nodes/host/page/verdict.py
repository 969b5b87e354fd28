"""What SEGA did in a run, in words for the node: which steps, how strong, where, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ....guidance_core import EditSize

# Below the first ratio an edit is mostly not seen, above the second much else changes: of the guidance, and of the
# prediction where there is no guidance (guided), for bare texts and for those in the context of the picture's prompt
# (in_prompt). Measured on the portraits model (docs/evaluation.md).
BOUNDS = {
    (True, False): (0.3, 1.5),
    (False, False): (0.03, 0.3),
    (True, True): (0.25, 1.5),
    (False, True): (0.02, 0.15),
}

NO_STEP = "its window holds no step of this run: lower start_percent or raise end_percent"


@dataclass(frozen=True)
class Acted:
    """One concept of a finished run. steps: of the run's steps those in its window, None if it was switched off;
    size: of its edit, None if it never acted; swept: with another scale for each picture; base: what it was compared
    with; stronger: what would make more of it; missed: what to do where its window holds no step; in_prompt: whether it
    was measured in the context of the picture's prompt."""

    name: str
    steps: int | None = None
    size: EditSize | None = None
    swept: bool = False
    base: str = "positive"
    stronger: tuple[str, ...] = ("raise scale", "lower threshold", "start earlier")
    missed: str = NO_STEP
    in_prompt: bool = False


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
    def text(self) -> str:
        return f"+{100 * self.added / self.own:.0f} % evaluations" if self.own else f"+{self.added} evaluations"


def verdict(
    concepts: Sequence[Acted], steps: int, evaluations: Evaluations, guided: bool, notes: Sequence[str] = ()
) -> str:
    """A line for each concept, what to change under those that act too little or too much to be seen as wanted, and the
    cost in the last line if there are several.

    steps: of the run; guided: whether the sizes are compared with the guidance (else with the noise estimate); notes:
    what else the user should know, a line each.
    """
    lines = []
    for concept in concepts:
        name = f"{concept.name} in the prompt" if concept.in_prompt else concept.name
        lines.append(f"{name}: {_what(concept, steps, guided)}")
        advice = _advice(concept, guided)
        if advice:
            lines.append(f"→ {advice}")
    if len(concepts) == 1:
        lines[0] += f", {evaluations.text}"
    else:
        lines.append(evaluations.text)
    lines += notes
    return ";\n".join(lines)  # a page may show the end of a line as a blank


def _what(concept: Acted, steps: int, guided: bool) -> str:
    if concept.steps is None:
        return "switched off"
    active = f"active in {concept.steps} of {steps} steps"
    if concept.size is None or not concept.size.share > 0:
        return active
    ratio, unit = concept.size.ratio, "guidance" if guided else "prediction"
    compared = "" if ratio is None else f", edit = {ratio:.2g} × {unit}"
    return f"{active}{compared}, {100 * concept.size.share:.0f} % of the picture"


def _advice(concept: Acted, guided: bool) -> str:
    if concept.steps is None:
        return "scale 0, an empty window, or a black mask"
    if concept.steps == 0:
        return concept.missed
    if concept.size is not None and math.isnan(concept.size.share):
        return f"the model gave values that are no numbers: lower {'cfg or scale' if guided else 'scale'}"
    if concept.size is None or concept.size.share == 0:
        return f"nothing differs from the {concept.base} prompt: try another text"
    if concept.size.ratio is None or concept.swept:
        return ""
    faint, heavy = BOUNDS[guided, concept.in_prompt]
    if concept.size.ratio < faint:
        return "probably too weak to see: " + (" or ".join(concept.stronger) or "try another text")
    if concept.size.ratio > heavy:
        return "probably too strong: lower scale or raise threshold"
    return ""
