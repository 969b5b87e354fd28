"""A subject from a few pictures: equation 2 of DreamBooth, with the class beside it or without."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ....guidance_core import prior_loss, squared_error
from .asking import Asked
from .bank import Bank
from .noised import Noise, evenly, plain

INSTANCE, CLASS = "instance", "class"


class Prior(Protocol):
    """What the class is held at."""

    @property
    def given(self) -> tuple[Tensor, ...]: ...

    def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]: ...

    def asked(self, model: Asked, *drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(x [B, C, ...], sigma [B], the goal there), on the model's device."""
        ...


class Pictures:
    """Pictures with noise: the subject's own, or of its class. pictures: [P, C, ...] in the model's internal latent
    space; percents: of the model's range of levels. Raises ValueError for a range without levels."""

    def __init__(self, sampling: Any, pictures: Tensor, start_percent: float, end_percent: float):
        self.noise, self.pictures = Noise(sampling, start_percent, end_percent), plain(pictures)

    @property
    def given(self) -> tuple[Tensor, ...]:
        return (self.pictures,)

    def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]:
        return evenly(rng, len(self.pictures), count), *self.noise.drawn(rng, count, self.pictures.shape[1:])

    def asked(self, model: Asked, *drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, sigma, noise = drawn
        x, target = self.noise.added(self.pictures[rows], sigma, noise)
        return x.to(model.device), sigma.to(model.device), target.to(model.device)


@dataclass(frozen=True)
class Output:
    """What the frozen model says of the class, at states of its own runs by the class's conditioning: needs no
    pictures. Asked once for each state, and kept."""

    bank: Bank
    _targets: dict[int, Tensor] = field(default_factory=dict)  # by row: [1, C, ...] on the CPU

    @property
    def given(self) -> tuple[Tensor, ...]:
        return self.bank.x, self.bank.sigma

    def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]:
        return (self.bank.drawn(rng, count),)

    def asked(self, model: Asked, *drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (rows,) = drawn
        x, sigma = self.bank.x[rows].to(model.device), self.bank.sigma[rows].to(model.device)
        # Each by itself: in a batch its values would be rounded otherwise, and a training that goes on be another.
        for row, state, level in zip(rows.tolist(), x.split(1), sigma.split(1), strict=True):
            if row not in self._targets:
                self._targets[row] = model.frozen(state, level, [CLASS])[0].cpu()
        return x, sigma, torch.cat([self._targets[row] for row in rows.tolist()]).to(model.device)


class SubjectObjective:
    """The subject's pictures by the conditioning `INSTANCE`, and the prior by `CLASS`, the LoRA at strength 1 on both.

    prior_weight: λ; at 0, or without a prior, nothing is asked of the class. Raises ValueError for one below 0.
    """

    def __init__(self, instance: Pictures, prior: Prior | None, prior_weight: float):
        if not (math.isfinite(prior_weight) and prior_weight >= 0):
            raise ValueError(f"prior_weight is {prior_weight:g}; it must be a number of 0 or more (the paper: 1)")
        self.instance, self.prior, self.prior_weight = instance, prior if prior_weight else None, prior_weight

    @property
    def states(self) -> Tensor:
        return self.instance.pictures

    @property
    def given(self) -> tuple[Tensor, ...]:
        return (*self.instance.given, *(self.prior.given if self.prior else ()))

    def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]:
        instance = self.instance.drawn(rng, count)
        return (*instance, *self.prior.drawn(rng, count)) if self.prior else instance

    def loss(self, model: Asked, *drawn: Tensor) -> Tensor:
        rows, sigma, noise, *of_class = drawn
        estimate, target = _trained(model, INSTANCE, *self.instance.asked(model, rows, sigma, noise))
        if self.prior is None:
            return squared_error(estimate, target)
        prior, prior_target = _trained(model, CLASS, *self.prior.asked(model, *of_class))
        return prior_loss(estimate, target, prior, prior_target, self.prior_weight)


def _trained(model: Asked, name: str, x: Tensor, sigma: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(the estimate with the LoRA, its goal)."""
    return model.trained(x, sigma, name, torch.ones(len(x), device=model.device)), target
