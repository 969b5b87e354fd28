"""Concepts whose edits have a wanted size: within a run the scale of each follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ....guidance_core import Concept, own_size, scale_for
from ..conditioning.concept import LARGEST_SCALE

USUAL_SCALE = 5.0  # a concept of this scale has the size that was asked for, others their share of it


class Aimed:
    """The concepts of a run at scale 1, and the scales that they got. aim: the size, in multiples of what each concept
    alone makes of the picture when it begins: a large thing has to move more of it than a small one until it is seen.

    Raises ValueError for a sweep, whose pictures differ in the very thing that is decided here.
    """

    def __init__(self, aim: float, concepts: Sequence[Concept]):
        scales = [concept.scale for concept in concepts]
        if any(isinstance(scale, tuple) for scale in scales):
            raise ValueError(
                f"aim is {aim:g} and the concepts are a SEGA Sweep's, which has scales of its own; set aim to 0, or "
                "use SEGA Concept"
            )
        self.aims = [aim * abs(float(scale)) / USUAL_SCALE for scale in scales if not isinstance(scale, tuple)]
        self.concepts = [
            replace(concept, scale=1.0 if float(scale) > 0 else -1.0)
            for concept, scale in zip(concepts, scales, strict=True)
            if not isinstance(scale, tuple)
        ]
        self._begins: dict[int, tuple[Tensor, Tensor]] = {}  # the estimate there, and the size wanted
        self._given: dict[int, list[Tensor]] = {}

    def sized(self, gamma: Mapping[int, Tensor], sigma: float, estimate: Tensor) -> dict[int, Tensor]:
        """γ at scale 1 times the scale that each concept needs at an evaluation; estimate: without the edit."""
        found = {}
        for i, term in gamma.items():
            if i not in self._begins:
                self._begins[i] = estimate, self.aims[i] * own_size(term, sigma, estimate)
            begin, aim = self._begins[i]
            scale = scale_for(aim, term, sigma, estimate, begin, LARGEST_SCALE)
            self._given.setdefault(i, []).append(scale.mean())
            found[i] = term * scale.to(term.dtype).reshape(-1, *[1] * (term.ndim - 1))
        return found

    def scales(self, i: int) -> tuple[float, float] | None:
        """The least and the largest scale that a concept got, None where it never acted. Waits for the device."""
        if i not in self._given:
            return None
        low, high = torch.stack(torch.stack(self._given[i]).aminmax()).tolist()
        return low, high
