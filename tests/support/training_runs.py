"""For tests of training: a small slider in training on the small UNet, its parts at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import comfy.sd
import pytest
import tiny_models
import torch
from semantic_steering.guidance_core import noise_estimate
from semantic_steering.nodes.host.training.bank import walked
from semantic_steering.nodes.host.training.factors import Factors
from semantic_steering.nodes.host.training.kept import Kept
from semantic_steering.nodes.host.training.layers import chosen
from semantic_steering.nodes.host.training.run import Training
from semantic_steering.nodes.host.training.text import TextObjective

GUIDANCE, RANK, ALPHA, BATCH = 1.5, 2, 1.0, 2
TARGET, NEGATIVE, PLUS, MINUS = (tiny_models.unet_cond(seed) for seed in (1, 2, 3, 4))
CONDS = {"target": TARGET, "plus 0": PLUS, "minus 0": MINUS}
SHAPE = (4, 8, 8)


def training(
    model: Any, conds: dict[str, Any] | None = None, rank: int = RANK, rate: float = 1e-2, batch: int = BATCH,
    layers: str = "no cross-attention", seed: int = 7, shape: tuple[int, ...] = SHAPE,
) -> Training:  # fmt: skip
    """A text slider before its first step. conds: of the objective, in place of random ones."""
    conds = CONDS if conds is None else conds
    bank = walked(model, conds["target"], torch.zeros(1, *shape), 0.0, 0.6, seed, 2, trajectories=4)
    return begun(model, conds, TextObjective(bank, (len(conds) - 1) // 2, GUIDANCE), rank, rate, batch, layers, seed)


def begun(
    model: Any, conds: dict[str, Any], objective: Any, rank: int = RANK, rate: float = 1e-2, batch: int = BATCH,
    layers: str = "no cross-attention", seed: int = 7,
) -> Training:  # fmt: skip
    """A training of an objective before its first step."""
    factors = Factors(chosen(model, layers, rank), rank, ALPHA, seed)
    return Training(model, conds, objective, factors, rate, batch, seed)


def with_slider(model: Any, tensors: dict, strength: float) -> Any:
    """The stock LoRA loader's MODEL."""
    return comfy.sd.load_lora_for_models(model, None, dict(tensors), strength, 0)[0]


def estimate(model: Any, x: torch.Tensor, sigma: torch.Tensor, conditioning: list) -> torch.Tensor:
    """n of one conditioning, by the host's own network with whatever weights a MODEL has."""
    comfy.model_management.load_models_gpu([model])
    with torch.no_grad():
        context = conditioning[0][0].repeat(len(x), 1, 1)
        return noise_estimate(x, model.model.apply_model(x, sigma, c_crossattn=context), sigma)


@dataclass
class Question:
    """What an objective has asked the network in training."""

    x: torch.Tensor
    sigma: torch.Tensor
    name: str
    strengths: torch.Tensor


@dataclass
class Listening:
    """In the network's place: notes what is asked, and answers nothing."""

    device: torch.device = tiny_models.CPU
    questions: list[Question] = field(default_factory=list)

    def trained(self, x: torch.Tensor, sigma: torch.Tensor, name: str, strengths: torch.Tensor) -> torch.Tensor:
        self.questions.append(Question(x, sigma, name, strengths))
        return torch.zeros_like(x)

    def frozen(self, x: torch.Tensor, sigma: torch.Tensor, names: list[str]) -> list[torch.Tensor]:
        return [torch.zeros_like(x) for _ in names]

    def hears(self, objective: Any, seed: int, count: int) -> list[Question]:
        """One step's questions."""
        self.questions.clear()
        objective.loss(self, *objective.drawn(torch.Generator().manual_seed(seed), count))
        return list(self.questions)


def same(one: Training, other: Training) -> None:
    """Asserts that two trainings went the same way, to the bit."""
    assert one.losses == other.losses
    found, expected = one.factors.tensors(), other.factors.tensors()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def goes_on(made: Callable[[], Training], kept_of: Callable[[Training], Kept]) -> None:
    """Asserts that a training that is cancelled, kept and gone on with is the one that never stopped."""
    stopped = made()
    kept = kept_of(stopped)
    stopped.run(3)
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        stopped.run(6)
    kept.write(stopped, "interrupted")
    run = made()
    assert kept_of(run).resume(run) == 3
    run.run(6)
    whole = made()
    whole.run(6)
    same(run, whole)


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
