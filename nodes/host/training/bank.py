"""States that a slider is trained at: where the frozen model's own runs come by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..page.messages import message
from ..page.progress import show_text
from .asking import Asked
from .noised import spread
from .walks import noises, walk

STEPS = 20  # of the whole range, of which a trajectory walks as much as is asked for
TRAJECTORIES = 16


@dataclass(frozen=True)
class Bank:
    """x: [S, C, ...] in the model's internal latent space; sigma: [S]. On the CPU, of no inference mode."""

    x: Tensor
    sigma: Tensor

    def drawn(self, rng: torch.Generator, count: int) -> Tensor:
        """`count` rows, one out of each of as many parts of the range of levels."""
        order = self.sigma.argsort(descending=True, stable=True)
        return order[(spread(rng, count) * len(order)).long()]


@dataclass(frozen=True)
class Answers:
    """What the frozen model says of a bank's states, made by `ask` of (model, x [1, C, ...], sigma [1]) and asked once
    for each. Each by itself: in a batch its values would be rounded otherwise, and a training that goes on would not be
    the one that never stopped."""

    bank: Bank
    ask: Callable[[Asked, Tensor, Tensor], Tensor]
    _known: dict[int, Tensor] = field(default_factory=dict)  # by row, on the CPU

    @property
    def given(self) -> tuple[Tensor, ...]:
        return self.bank.x, self.bank.sigma

    def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]:
        return (self.bank.drawn(rng, count),)

    def asked(self, model: Asked, *drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(x [B, C, ...], sigma [B], the answers [B, ...]) of rows drawn, on the model's device."""
        (rows,) = drawn
        x, sigma = self.bank.x[rows].to(model.device), self.bank.sigma[rows].to(model.device)
        for row, state, level in zip(rows.tolist(), x.split(1), sigma.split(1), strict=True):
            if row not in self._known:
                self._known[row] = self.ask(model, state, level).cpu()
        return x, sigma, torch.stack([self._known[row] for row in rows.tolist()]).to(model.device)


def levels(sampling: Any, end_percent: float, shift: float) -> Tensor:
    """Noise levels of a trajectory, noisiest first: the model's highest one, then one each step of the range, moved by
    a share `shift` of a step, and end_percent's, at which nothing is asked any more."""
    steps = [(k + shift) / STEPS for k in range(STEPS)]
    shares = [0.0, *(share for share in steps if 0 < share < end_percent), end_percent]
    sigmas = [min(float(sampling.percent_to_sigma(share)), float(sampling.sigma_max)) for share in shares]
    return torch.tensor([sigma for i, sigma in enumerate(sigmas) if i == 0 or sigma < sigmas[i - 1]])


def walked(
    model: Any, positive: Any, empty: Tensor, start_percent: float, end_percent: float, seed: int, at_once: int,
    trajectories: int = TRAJECTORIES,
) -> Bank:  # fmt: skip
    """Trajectories of the host's Euler sampler at cfg 1 from as many seeds, and all their states from start_percent to
    end_percent. empty: one picture's latent; at_once: pictures in one run. Their levels lie between one another's.

    Raises ValueError for a range without any level.
    """
    if not end_percent - start_percent >= 1 / STEPS:
        raise ValueError(
            f"start_percent {start_percent:g} to end_percent {end_percent:g} leaves no noise levels to train at; they "
            f"must lie at least {1 / STEPS:g} apart (usually 0 and 0.8)"
        )
    sampling = model.get_model_object("model_sampling")
    highest = float(sampling.percent_to_sigma(start_percent))
    x, sigma = [], []
    for first in range(0, trajectories, at_once):
        show_text(message("training_walks", done=first, total=trajectories), passing=True)
        seeds = range(seed + first, seed + min(first + at_once, trajectories))
        sigmas = levels(sampling, end_percent, (first // at_once + 0.5) / -(-trajectories // at_once))

        def keep(step: int, _: Tensor, state: Tensor, __: int, sigmas: Tensor = sigmas) -> None:
            if float(sigmas[step]) <= highest * (1 + 1e-4):
                x.append(state.detach().float().cpu())
                sigma.append(sigmas[step].repeat(len(state)))

        walk(model, positive, None, 1.0, noises(empty, seeds), sigmas, seed, keep)
    with torch.inference_mode(False):
        return Bank(torch.cat(x).clone(), torch.cat(sigma).clone())
