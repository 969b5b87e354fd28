"""A subject from a few pictures: equation 2 of DreamBooth, with the class beside it or without."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ....guidance_core import check_prior_weight, prior_loss, squared_error
from .asking import Asked
from .bank import Answers, Bank
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


def output(bank: Bank) -> Answers:
    """What the frozen model says of the class, at states of its own runs by the class's conditioning: needs no
    pictures."""
    return Answers(bank, lambda model, x, sigma: model.frozen(x, sigma, [CLASS])[0][0])


class SubjectObjective:
    """The subject's pictures by the conditioning `INSTANCE`, and the prior by `CLASS`, the LoRA at strength 1 on both.

    prior_weight: λ; at 0, or without a prior, nothing is asked of the class. Raises ValueError for one below 0.
    """

    def __init__(self, instance: Pictures, prior: Prior | None, prior_weight: float):
        check_prior_weight(prior_weight)
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
