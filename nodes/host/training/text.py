"""A slider from words: equation 8 of Concept Sliders at states of the frozen model's own runs."""

from __future__ import annotations

import torch
from torch import Tensor

from ....guidance_core import of_size, slider_loss, text_target
from .asking import Asked
from .bank import Answers, Bank

TARGET, PLUS, MINUS = "target", "plus", "minus"


class TextObjective:
    """Both signs at the same states, each step about one text: the target, or one of the poles.

        n(x, c; ±1) = n*(x, c) ± η·(n*(x, c₊) − n*(x, c₋))    c = c_t, c₊ or c₋, each in a third of the steps

    The authors ask by c_t alone. Their slider is then nowhere taught what to do behind a prompt that says the
    attribute, and turns it back too little there (docs/evaluation-training.md). The poles' estimates are the targets'
    anyway: asking by them costs nothing.

    preserved: how many texts stand beside both poles. The conditionings it asks by are `names`.
    """

    def __init__(self, bank: Bank, preserved: int, guidance: float):
        self.bank, self.guidance, self.poles = bank, guidance, max(preserved, 1)
        self.answers = Answers(bank, self._frozen)
        self.sized = of_size

    @property
    def names(self) -> list[str]:
        return [TARGET, *(f"{pole} {i}" for pole in (PLUS, MINUS) for i in range(self.poles))]

    @property
    def states(self) -> Tensor:
        return self.bank.x

    @property
    def given(self) -> tuple[Tensor, ...]:
        return self.answers.given

    def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]:
        """(rows of the bank, which of the names they are asked by, the same for all)."""
        (rows,) = self.answers.drawn(rng, count)
        shares = torch.tensor([1.0, *[1 / self.poles] * (2 * self.poles)])
        return rows, torch.multinomial(shares, 1, generator=rng).repeat(count)

    def loss(self, model: Asked, *drawn: Tensor) -> Tensor:
        x, sigma, name, targets = self.goals(model, *drawn)
        signs = torch.ones(len(x), device=model.device)
        both = model.trained(torch.cat([x, x]), sigma.repeat(2), name, torch.cat([signs, -signs]))
        return slider_loss(*both.chunk(2), *targets)

    def goals(self, model: Asked, rows: Tensor, asked_by: Tensor) -> tuple[Tensor, Tensor, str, list[Tensor]]:
        """(x [B, C, ...], sigma [B], the name to ask by, what the answers should be at +1 and at −1) of a step."""
        x, sigma, frozen = self.answers.asked(model, rows)
        which = int(asked_by[0])
        own, poles = frozen[:, which], frozen[:, 1:].movedim(1, 0)
        plus, minus = poles.chunk(2)
        targets = [self.sized(text_target(own, plus, minus, self.guidance, sign), own) for sign in (1.0, -1.0)]
        return x, sigma, self.names[which], targets

    def _frozen(self, model: Asked, x: Tensor, sigma: Tensor) -> Tensor:
        """The frozen model's estimates by all names, [names, C, ...]. x: [1, C, ...]; sigma: [1]."""
        return torch.cat(model.frozen(x, sigma, self.names))
