"""Refresh: concepts are evaluated in every n-th step only, and their directions are held in between.

Not in the paper. An edit direction Δn (equation 5) turns slowly from one step to the next, so a direction of the step
before is nearly as good, and a step without evaluations of concepts costs what plain guidance costs. Everything after
the difference (threshold, momentum, windows) runs in every step as always.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor


class HeldDirections:
    """The latest direction of each concept of one run. every: n ≥ 1; at 1 nothing is held.

    Raises ValueError for n below 1.
    """

    def __init__(self, every: int):
        if not every >= 1:  # NaN too
            raise ValueError(f"refresh is {every}; it must be 1 (evaluate concepts in every step) or more")
        self.every = every
        self._step = 0  # of the last evaluation
        self._held: dict[int, tuple[int, Tensor]] = {}

    def stale(self, concepts: Iterable[int], step: int) -> list[int]:
        """The concepts to evaluate at a step, of those that are needed there; to be asked at every evaluation.

        At n = 1 all of them, also at every further evaluation of the same step. Above, those without a direction and
        those whose own is n steps old. Directions of concepts that are not needed any more are dropped, and all of them
        where a sampler goes back to a noisier step: it has added noise, or goes another way from there.
        """
        concepts = list(concepts)
        if self.every == 1:
            return concepts
        held = {} if step < self._step else {i: self._held[i] for i in concepts if i in self._held}
        self._step, self._held = step, held
        return [i for i in concepts if i not in held or step - held[i][0] >= self.every]

    def completed(self, fresh: Mapping[int, Tensor], concepts: Iterable[int], step: int) -> dict[int, Tensor]:
        """The directions of all `concepts`: those just evaluated, which are held from now on, and the held ones."""
        if self.every == 1:
            return dict(fresh)
        self._held.update({i: (step, difference) for i, difference in fresh.items()})
        return {i: self._held[i][1] for i in concepts}
