"""The concepts among a guider's conditionings, and what each of them is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..conditioning.attention_patches import mixes_outputs
from ..conditioning.checks import check_width
from ..conditioning.concept import ConceptInput
from ..conditioning.context import Context, concept_conds, context_of, differences, in_context
from ..conditioning.selection import holding, limited, limited_in_place, shares
from ..run.patches import ALTERNATIVE
from .settings import SEGA


@dataclass(frozen=True)
class Base:
    """What says the same as one of the guider's own conditionings, in a concept's context.

    name: of the guider's own; apart: in what each of its entries differs from the context; mixed: whether the guider's
    own estimate holds more than this; copies: keys of copies over the whole picture and run, one for each entry (none
    where they are never needed).
    """

    name: str
    apart: tuple[tuple[str, ...], ...] = ()
    mixed: bool = False
    copies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Direction:
    """A concept and its base, in one context of the positive. concept: its key."""

    concept: str
    base: Base


@dataclass(frozen=True)
class Part:
    """A copy that is (a part of) a base at one noise level. share: its weight in each cell."""

    key: str
    share: Tensor | float = 1.0


class RunConditionings:
    """A run's own conditionings in its guider, which keeps them for this run only, so that the host prepares, loads and
    cleans them up like its own.

    The positive's context may change within a run (another control, other hooks in a part of it): concepts and their
    bases are there once for each context.
    """

    def __init__(self, guider: Any):
        self.guider = guider  # which gets other lists in its conds when the run begins
        self.prefix = f"{SEGA.key}.{len(self._of_all())}"
        self.apart: dict[str, set[str]] = {}  # by the name of a base that is evaluated again: in what it differs
        self._directions: list[list[Direction]] = []  # by concept, then by the positive's context
        self._contexts: list[int] = []  # of each entry of the positive
        self._entries = {name: len(conds) for name, conds in guider.conds.items()}

    def add(self, entries: Sequence[ConceptInput], bases: Sequence[str]) -> None:
        """Put the concepts there, with what they inherit, and copies of the bases (one name for each concept) that
        differ from them in more than words, or do not hold everywhere.

        Raises ValueError for a concept that was encoded for another model family.
        """
        conds = self.guider.conds
        contexts: list[Context] = []
        for cond in conds["positive"]:
            found = context_of(cond)
            same = [i for i, context in enumerate(contexts) if not differences(context, found)]
            self._contexts.append(same[0] if same else len(contexts))
            if not same:
                contexts.append(found)
        made: list[tuple[Context, Base]] = []
        for i, (entry, name) in enumerate(zip(entries, bases, strict=True)):
            directions = []
            for number, context in enumerate(contexts):
                concept = concept_conds(entry, context)
                check_width(entry, concept, conds["positive"])
                base = self._base(name, context_of(concept[0]), made)
                kind = "positive" if base.copies or name == "positive" else "negative"
                for cond in concept:  # which counts on models that know how good a picture is (SDXL's refiner)
                    cond["prompt_type"] = kind
                key = f"{self.prefix}.concept.{i}" + (f"{ALTERNATIVE}{number}" if number else "")
                conds[key] = concept
                directions.append(Direction(key, base))
            self._directions.append(directions)

    def _base(self, name: str, context: Context, made: list[tuple[Context, Base]]) -> Base:
        """The base of that name in a concept's context: one that is there already, or a new one."""
        for known, base in made:
            if base.name == name and not differences(known, context):
                return base
        own, mixed = self.guider.conds[name], mixes_outputs(self.guider.model_options)
        apart = tuple(tuple(differences(self._handed_on(cond, name), context)) for cond in own)
        copies = []
        if mixed or any(apart) or any(map(limited, own)):
            for i, cond in enumerate(own):
                # Of entries for different times one is evaluated.
                mark = ALTERNATIVE if i and not limited_in_place(cond) else "."
                copies.append(f"{self.prefix}.base.{len(made)}{mark}{i}")
                self.guider.conds[copies[-1]] = [in_context(cond, context)]
        made.append((context, Base(name, apart, mixed, tuple(copies))))
        return made[-1][1]

    def _handed_on(self, cond: dict, name: str) -> Context:
        """The context of one of the guider's own as the host will have it: a control that was applied by the older
        ControlNet node is the negative's too (apply_empty_x_to_equal_area)."""
        context = context_of(cond)
        if name == "positive" or any("area" not in other and other.get("control") for other in self.guider.conds[name]):
            return context
        controls = [
            other["control"]
            for other in self.guider.conds["positive"]
            if other.get("control_apply_to_uncond") and other.get("control") and "area" not in other
        ]
        return context if len(controls) != 1 or "area" in cond else {**context, "control": controls[0]}

    def direction(self, i: int, sigma: float) -> Direction:
        """Of the concept, in the context that the positive has at σ."""
        if len(self._directions[i]) == 1:
            return self._directions[i][0]
        entries = holding(self._own("positive"), sigma)
        return self._directions[i][self._contexts[entries[0] if entries else 0]]

    def parts(self, base: Base, x: Tensor, timestep: Tensor) -> list[Part]:
        """The copies that are the base at a noise level; none where it is the guider's own estimate."""
        if not base.copies:
            return []
        own = self._own(base.name)
        found = holding(own, float(timestep.flatten()[0]))
        apart = {key for i in found for key in base.apart[i]}
        if found and not (base.mixed or apart or any(limited_in_place(own[i]) for i in found)):
            return []
        if apart:
            self.apart.setdefault(base.name, set()).update(apart)
        if len(found) == 1 or len(own) == 1:
            return [Part(base.copies[found[0] if found else 0])]
        used = found or range(len(own))
        weights = shares([own[i] for i in used], x, timestep)
        return [Part(base.copies[i], weight) for i, weight in zip(used, weights, strict=True)]

    def of(self, key: str) -> list[dict]:
        """One of the guider's conditionings, by its name or by what stands in a Direction or a Part."""
        return self.guider.conds[key]

    def _own(self, name: str) -> list[dict]:
        """One of the guider's own as it was given, without what the host adds to it for areas."""
        return self.guider.conds[name][: self._entries[name]]

    def foreign(self, conds: Sequence[list[dict] | None]) -> int:
        """How many conditionings are there and are no SEGA Guidance's: another one on the same model adds its own."""
        sega = self._of_all()
        return sum(cond is not None and not any(cond is other for other in sega) for cond in conds)

    def _of_all(self) -> list[list[dict]]:
        return [cond for key, cond in self.guider.conds.items() if key.startswith(f"{SEGA.key}.")]
