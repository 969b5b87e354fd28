"""Equations 4 to 10 of the SEGA paper once more: numpy, float64, one loop per concept, sample, channel and position.

Written from the paper and the stated rules, sharing nothing with the code under test.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np


@dataclass
class SlowConcept:
    """start and end are noise levels: the concept acts where end < σ ≤ start. scale: one number, or one a picture."""

    scale: float | tuple[float, ...]
    threshold: float
    start: float = 1e9
    end: float = 0.0

    def scale_of(self, picture: int) -> float:
        return self.scale[picture] if isinstance(self.scale, tuple) else self.scale

    def warm(self, sigma: float) -> bool:
        return sigma <= self.start * (1 + 1e-4)

    def acts(self, sigma: float) -> bool:
        return self.warm(sigma) and sigma > self.end

    def ended(self, sigma: float) -> bool:
        return sigma <= self.end


def keep(psi: np.ndarray, threshold: float, over: str = "channel", mask: np.ndarray | None = None) -> np.ndarray:
    """Equations 4 and 6 for one concept's ψ [B, C, ...]: |ψ| ≥ η_λ(|ψ|), else 0; positions with mask 0 do not count."""
    psi = np.asarray(psi, dtype=np.float64)
    inside = np.ones(psi.shape, dtype=bool) if mask is None else np.broadcast_to(mask, psi.shape) > 0
    kept = np.zeros(psi.shape)
    for b in range(psi.shape[0]):
        if over == "position":
            places = [
                place for place in itertools.product(*(range(n) for n in psi.shape[2:])) if inside[(b, 0, *place)]
            ]
            sizes = [
                float(np.float32(np.sqrt(sum(float(value) ** 2 for value in psi[(b, slice(None), *p)]))))
                for p in places
            ]
            eta = np.float32(np.quantile(np.array(sizes), threshold)) if places else 0.0
            for place, size in zip(places, sizes, strict=True):
                if np.float32(size) >= eta:
                    kept[(b, slice(None), *place)] = psi[(b, slice(None), *place)]
            continue
        groups = [[c] for c in range(psi.shape[1])] if over == "channel" else [list(range(psi.shape[1]))]
        for channels in groups:
            places = [
                (b, c, *place)
                for c in channels
                for place in itertools.product(*(range(n) for n in psi.shape[2:]))
                if inside[(b, c, *place)]
            ]
            if not places:
                continue
            eta = np.float32(np.quantile(np.array([abs(psi[place]) for place in places]), threshold))
            for place in places:
                if np.float32(abs(psi[place])) >= eta:
                    kept[place] = psi[place]
    return kept


def step(
    differences: dict[int, np.ndarray],
    concepts: list[SlowConcept],
    sigma: float,
    momentum_scale: float,
    beta: float,
    nu: dict[int, np.ndarray],
    over: str = "channel",
    masks: dict[int, np.ndarray] | None = None,
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """One model evaluation: the sum of the terms that are added to the guided estimate, and every concept's next ν.

    A concept that has ended has no ν any more. The momentum is added once every concept has warmed up; in a picture
    where its scale is 0 a concept is not waited for.
    """
    total = np.zeros(next(iter(differences.values())).shape) if differences else np.zeros(())
    following = {}
    for i, concept in enumerate(concepts):
        if i not in differences or concept.ended(sigma):
            continue
        mask = (masks or {}).get(i)
        edit = keep(differences[i], concept.threshold, over, mask)
        for picture in range(len(edit)):
            edit[picture] = concept.scale_of(picture) * edit[picture]  # equation 4
        if mask is not None:
            edit = edit * mask
        momentum = nu.get(i, np.zeros(edit.shape))
        gamma = edit + momentum_scale * momentum  # equation 7
        following[i] = beta * momentum + (1 - beta) * gamma  # equation 8
        if concept.acts(sigma):  # equations 9 and 10
            for picture in range(len(total)):
                all_warm = all(other.warm(sigma) for other in concepts if other.scale_of(picture) != 0)
                total[picture] += gamma[picture] if all_warm else edit[picture]
    return total, following
