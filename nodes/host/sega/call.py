"""One evaluation's call with the concepts in it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..conditioning.base import OWN_INDEX
from ..page.verdict import Evaluations
from ..run.batched_call import BatchedCall
from .conditionings import Part, RunConditionings


@dataclass(frozen=True)
class Estimates:
    """Of one evaluation, by concept: its own and its base's."""

    concepts: dict[int, Tensor]
    bases: dict[int, Tensor]


class ConceptCall(BatchedCall):
    """Appends the concepts (and bases, where the guider does not evaluate them as they are needed) to the
    conditionings, and returns the guider only its own. indices: of the concepts to evaluate."""

    def __init__(self, conds: RunConditionings, indices: list[int], evaluations: Evaluations, model_options: dict):
        super().__init__(model_options)
        self.conds, self.indices, self.evaluations = conds, indices, evaluations
        self.estimates: Estimates | None = None
        self.alone = False

    def __call__(self, args: dict) -> list[Tensor]:
        conds = list(args["conds"])
        if self.estimates is not None:
            return self.asked(args, conds)
        sigma = float(args["sigma"].flatten()[0])
        directions = {i: self.conds.direction(i, sigma) for i in self.indices}
        parts = {each.base: self.conds.parts(each.base, args["input"], args["sigma"]) for each in directions.values()}
        own = {base.name: OWN_INDEX[base.name] for base, copies in parts.items() if not copies}
        if self.alone:
            for name, place in own.items():
                conds[place] = self.conds.of(name)
        # A base that the guider does not evaluate itself, copies, concepts: by key, with the place of the base's.
        added = {name: place for name, place in own.items() if place >= len(conds) or conds[place] is None}
        added |= {part.key: OWN_INDEX[base.name] for base, copies in parts.items() for part in copies}
        added |= {each.concept: OWN_INDEX[each.base.name] for each in directions.values()}
        self._count(conds, len(added))
        out, rest = self.evaluate(args, conds, [(self.conds.of(key), place) for key, place in added.items()])
        found = dict(zip(added, rest, strict=True))
        # What the guider gets is its own to write into: some packs' functions do.
        found |= {name: out[place].clone() for name, place in own.items() if name not in found}
        bases = {base: _sum(copies, found) if copies else found[base.name] for base, copies in parts.items()}
        self.estimates = Estimates(
            {i: found[each.concept] for i, each in directions.items()},
            {i: bases[each.base] for i, each in directions.items()},
        )
        return out

    def evaluate_alone(self, model: Any, x: Tensor, timestep: Tensor, model_options: dict) -> Estimates:
        """One call of its own, with nothing for the guider in it but the base at its usual index."""
        self.alone = True
        args = {"conds": [None, None], "input": x, "sigma": timestep, "model": model, "model_options": model_options}
        self(args)
        assert self.estimates is not None  # the call above sets them
        return self.estimates

    def _count(self, conds: list, added: int) -> None:
        asked = self.conds.foreign(conds)
        if self.alone:
            added += asked
        else:
            self.evaluations.count_own(asked)
        self.evaluations.added += added


def _sum(parts: Sequence[Part], estimates: Mapping[str, Tensor]) -> Tensor:
    """The base that is made of parts, each with its share of every cell."""
    return functools.reduce(torch.add, (part.share * estimates[part.key] for part in parts))
