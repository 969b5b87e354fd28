"""A slider from words: equation 8 of Concept Sliders at states of the frozen model's own runs."""

from __future__ import annotations

import torch
from torch import Tensor

from ....guidance_core import of_size, slider_loss, text_target
from .asking import Asked
from .bank import Answers, Bank

TARGET = "target"


class TextObjective:
    """Both signs at the same states.

    preserved: how many texts stand beside both poles. The conditionings it asks by are `names`.
    """

    def __init__(self, bank: Bank, preserved: int, guidance: float):
        self.bank, self.guidance = bank, guidance
        self.plus = [f"plus {i}" for i in range(max(preserved, 1))]
        self.minus = [f"minus {i}" for i in range(max(preserved, 1))]
        self.answers = Answers(bank, self._targets)

    @property
    def names(self) -> list[str]:
        return [TARGET, *self.plus, *self.minus]

    @property
    def states(self) -> Tensor:
        return self.bank.x

    @property
    def given(self) -> tuple[Tensor, ...]:
        return self.answers.given

    def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]:
        return self.answers.drawn(rng, count)

    def loss(self, model: Asked, *drawn: Tensor) -> Tensor:
        x, sigma, targets = self.answers.asked(model, *drawn)
        signs = torch.ones(len(x), device=model.device)
        both = model.trained(torch.cat([x, x]), sigma.repeat(2), TARGET, torch.cat([signs, -signs]))
        at_plus, at_minus = both.chunk(2)
        return slider_loss(at_plus, at_minus, targets[:, 0], targets[:, 1])

    def _targets(self, model: Asked, x: Tensor, sigma: Tensor) -> Tensor:
        """At +1 and at −1, [2, C, ...]. x: [1, C, ...]; sigma: [1]."""
        neutral, *poles = model.frozen(x, sigma, self.names)
        plus, minus = torch.stack(poles).chunk(2)
        made = [text_target(neutral, plus, minus, self.guidance, sign) for sign in (1.0, -1.0)]
        return torch.cat([of_size(each, neutral) for each in made])
