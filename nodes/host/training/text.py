"""A slider from words: equation 8 of Concept Sliders at states of the frozen model's own runs."""

from __future__ import annotations

import torch
from torch import Tensor

from ....guidance_core import of_size, slider_loss, text_target
from .asking import Asked
from .bank import Bank

TARGET = "target"


class TextObjective:
    """Both signs at the same states. What the frozen model says of a state is asked once and kept.

    preserved: how many texts stand beside both poles. The conditionings it asks by are `names`.
    """

    def __init__(self, bank: Bank, preserved: int, guidance: float):
        self.bank, self.guidance = bank, guidance
        self.plus = [f"plus {i}" for i in range(max(preserved, 1))]
        self.minus = [f"minus {i}" for i in range(max(preserved, 1))]
        self._targets: dict[int, Tensor] = {}  # by row: at +1 and at -1, [2, C, ...] on the CPU

    @property
    def names(self) -> list[str]:
        return [TARGET, *self.plus, *self.minus]

    @property
    def states(self) -> Tensor:
        return self.bank.x

    @property
    def given(self) -> tuple[Tensor, ...]:
        return self.bank.x, self.bank.sigma

    def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]:
        return (self.bank.drawn(rng, count),)

    def loss(self, model: Asked, *drawn: Tensor) -> Tensor:
        (rows,) = drawn
        x, sigma = self.bank.x[rows].to(model.device), self.bank.sigma[rows].to(model.device)
        target_plus, target_minus = self._kept(model, rows, x, sigma)
        signs = torch.ones(len(rows), device=model.device)
        both = model.trained(torch.cat([x, x]), sigma.repeat(2), TARGET, torch.cat([signs, -signs]))
        at_plus, at_minus = both.chunk(2)
        return slider_loss(at_plus, at_minus, target_plus, target_minus)

    def _kept(self, model: Asked, rows: Tensor, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The targets at +1 and at −1, [B, C, ...]. Each state is asked by itself: in a batch with others its values
        would be rounded otherwise, and a training that goes on would not be the one that never stopped."""
        for i, row in enumerate(rows.tolist()):
            if row not in self._targets:
                neutral, *poles = model.frozen(x[i : i + 1], sigma[i : i + 1], self.names)
                plus, minus = torch.stack(poles).chunk(2)
                made = [text_target(neutral, plus, minus, self.guidance, sign) for sign in (1.0, -1.0)]
                self._targets[row] = torch.cat([of_size(each, neutral) for each in made]).cpu()
        found = torch.stack([self._targets[row] for row in rows.tolist()], 1).to(model.device)
        return found[0], found[1]
