"""For tests of training: a small text slider in training on the small UNet, its parts at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tiny_models
import torch
from semantic_steering.nodes.host.training.bank import walked
from semantic_steering.nodes.host.training.factors import Factors
from semantic_steering.nodes.host.training.layers import chosen
from semantic_steering.nodes.host.training.run import Training
from semantic_steering.nodes.host.training.text import TextObjective

GUIDANCE, RANK, ALPHA, BATCH = 1.5, 2, 1.0, 2
TARGET, NEGATIVE, PLUS, MINUS = (tiny_models.unet_cond(seed) for seed in (1, 2, 3, 4))
CONDS = {"target": TARGET, "plus 0": PLUS, "minus 0": MINUS}
SHAPE = (4, 8, 8)


def training(
    model: Any, conds: dict[str, Any] | None = None, rank: int = RANK, rate: float = 1e-2, batch: int = BATCH,
    layers: str = "no cross-attention", seed: int = 7, shape: tuple[int, ...] = SHAPE, negative: Any = NEGATIVE,
) -> Training:  # fmt: skip
    """A text slider before its first step. conds: of the objective, in place of random ones."""
    conds = CONDS if conds is None else conds
    bank = walked(model, conds["target"], negative, torch.zeros(1, *shape), 3.0, 0.0, 0.6, seed, 2, trajectories=4)
    factors = Factors(chosen(model, layers, rank), rank, ALPHA, seed)
    objective = TextObjective(bank, (len(conds) - 1) // 2, GUIDANCE)
    return Training(model, conds, objective, factors, rate, batch, seed)


def asked_by(training: Training, question: Callable[[Any], Any]) -> Any:
    """What is answered within a run of a training, where its step would stand."""

    answers: list[Any] = []

    def step(asked: Any) -> None:
        answers.append(question(asked))
        training.losses.append(0.0)

    own, training.step = training.step, step  # type: ignore[method-assign]
    try:
        training.run(len(training.losses) + 1)
    finally:
        training.step = own  # type: ignore[method-assign]
        del training.losses[len(training.losses) - len(answers) :]
    return answers[0]
