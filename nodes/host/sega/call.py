"""The concepts among a guider's conditionings, and one evaluation's call with them in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..conditioning.base import OWN_INDEX, bases_to_copy
from ..conditioning.checks import check_width
from ..conditioning.concept import ConceptInput
from ..conditioning.inherit import concept_conds, without_restrictions
from ..page.verdict import Evaluations
from ..run.batched_call import BatchedCall
from .settings import SEGA


class RunConditionings:
    """A run's own conditionings in its guider, which keeps them for this run only, so that the host prepares, loads and
    cleans them up like its own."""

    def __init__(self, guider: Any):
        self.guider = guider  # which gets other lists in its conds when the run begins
        self.prefix = f"{SEGA.key}.{len(self._of_all())}"

    def add(self, entries: Sequence[ConceptInput]) -> None:
        """Put the concepts there, with what they inherit, and copies of bases that are limited.

        Raises ValueError for a concept that was encoded for another model family.
        """
        conds = self.guider.conds
        found = [concept_conds(entry, conds["positive"]) for entry in entries]
        for entry, cond in zip(entries, found, strict=True):
            check_width(entry, cond, conds["positive"])
        conds.update({self._concept(i): cond for i, cond in enumerate(found)})
        for name in bases_to_copy(self.guider):
            conds[self._whole(name)] = without_restrictions(conds[name])

    def concept(self, i: int) -> list[dict]:
        return self.guider.conds[self._concept(i)]

    def own(self, name: str) -> list[dict]:
        """One of the guider's own."""
        return self.guider.conds[name]

    def whole(self, name: str) -> list[dict] | None:
        """The copy of a base over the whole picture and run, where the guider's own is limited."""
        return self.guider.conds.get(self._whole(name))

    def foreign(self, conds: Sequence[list[dict] | None]) -> int:
        """How many conditionings are there and are no SEGA Guidance's: another one on the same model adds its own."""
        sega = self._of_all()
        return sum(cond is not None and not any(cond is other for other in sega) for cond in conds)

    def _of_all(self) -> list[list[dict]]:
        return [cond for key, cond in self.guider.conds.items() if key.startswith(f"{SEGA.key}.")]

    def _concept(self, i: int) -> str:
        return f"{self.prefix}.concept.{i}"

    def _whole(self, name: str) -> str:
        return f"{self.prefix}.whole.{name}"


class ConceptCall(BatchedCall):
    """Appends the concepts (and the base, where the guider does not evaluate it whole) to the conditionings, and
    returns the guider only its own. base: its name in the guider; indices: of the concepts to evaluate."""

    def __init__(
        self, conds: RunConditionings, base: str, indices: list[int], evaluations: Evaluations, model_options: dict
    ):
        super().__init__(model_options)
        self.conds, self.base, self.indices, self.evaluations = conds, base, indices, evaluations
        self.estimates: tuple[Tensor, dict[int, Tensor]] | None = None
        self.alone = False

    def __call__(self, args: dict) -> list[Tensor]:
        conds = list(args["conds"])
        if self.estimates is not None:
            return self.asked(args, conds)
        whole, place = self.conds.whole(self.base), OWN_INDEX[self.base]
        own = whole is None and place < len(conds) and conds[place] is not None  # the guider evaluates the base itself
        added = [] if own else [self.conds.own(self.base) if whole is None else whole]
        added += [self.conds.concept(i) for i in self.indices]
        self._count(conds, len(added))
        out, rest = self.evaluate(args, conds, added, place)
        concepts = rest[-len(self.indices) :]
        # What the guider gets is its own to write into: some packs' functions do.
        base = out[place].clone() if own else rest[0]
        self.estimates = (base, dict(zip(self.indices, concepts, strict=True)))
        return out

    def evaluate_alone(
        self, model: Any, x: Tensor, timestep: Tensor, model_options: dict
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """One call of its own, with nothing for the guider in it but the base at its usual index."""
        self.alone = True
        conds: list = [None, None]
        if self.conds.whole(self.base) is None:
            conds[OWN_INDEX[self.base]] = self.conds.own(self.base)
        self({"conds": conds, "input": x, "sigma": timestep, "model": model, "model_options": model_options})
        assert self.estimates is not None  # the call above sets them
        return self.estimates

    def _count(self, conds: list, added: int) -> None:
        asked = self.conds.foreign(conds)
        if self.alone:
            added += asked
        else:
            self.evaluations.count_own(asked)
        self.evaluations.added += added
