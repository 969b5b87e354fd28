"""The training itself: steps of an objective through the host's guider, with only the slider's factors changing."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import comfy.model_management
import comfy.samplers
import torch
from torch import Tensor

from ..run.samplers import guider_for
from .asking import Asked, carry_strengths
from .factors import Factors
from .frozen import differentiable


class Objective(Protocol):
    """What is trained. states: [S, C, ...], where it is asked, in the model's internal latent space."""

    @property
    def states(self) -> Tensor: ...

    def loss(self, model: Asked, rng: torch.Generator, count: int) -> Tensor:
        """Of one step, over `count` draws; all that is drawn comes from `rng`."""
        ...


class Diverged(ValueError):
    """The loss, or its gradient, is no number any more."""

    def __init__(self, what: str, step: int, learning_rate: float):
        super().__init__(
            f"the {what} of step {step} is no number: lower learning_rate ({learning_rate:g} now; a third of it is a "
            "good next try), or guidance"
        )


@dataclass
class Training:
    """A slider on its way. All that a step changes is here: the factors, the optimiser's state and the losses.

    conds: {name: CONDITIONING} that the objective asks by. A step's random numbers follow from seed and step alone, so
    that a training goes on as if it had never stopped.
    """

    model: Any
    conds: Mapping[str, Any]
    objective: Objective
    factors: Factors
    learning_rate: float
    batch_size: int
    seed: int
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._keeps_copies = False
        self.factors.to(self.model.load_device)  # before there is anything beside them
        self.optimiser = torch.optim.Adam(self.factors.parameters.values(), lr=self.learning_rate)

    @property
    def states(self) -> Tensor:
        return self.objective.states

    def run(self, until: int) -> None:
        """Train on to a step. Raises Diverged, with the factors as the last good step left them, and the host's
        InterruptProcessingException after Cancel, between two evaluations."""
        guider = guider_for(self.model, dict(self.conds))
        carry_strengths(guider, self.factors)
        # Both signs of a step, with a graph of what they are made of.
        empty = torch.zeros(2 * self.batch_size, *self.states.shape[1:])
        sigmas = torch.tensor([float(self.model.get_model_object("model_sampling").sigma_max), 0.0])
        guider.sample(empty, empty, TrainingSampler(self, until), sigmas, disable_pbar=True)

    def step(self, asked: Asked) -> None:
        try:
            value = self._backward(asked)
        except RuntimeError as problem:
            if self._keeps_copies or "modified by an inplace operation" not in str(problem):
                raise
            # Flux and others write into what autograd has kept for its way back: from now on it keeps copies.
            self._keeps_copies = True
            self.optimiser.zero_grad(set_to_none=True)
            value = self._backward(asked)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.losses.append(value)

    def _backward(self, asked: Asked) -> float:
        """The loss of the next step, with its gradients on the factors."""
        step = len(self.losses) + 1
        rng = torch.Generator().manual_seed((self.seed + 7919 * step) % 2**63)
        copies = torch.autograd.graph.allow_mutation_on_saved_tensors if self._keeps_copies else contextlib.nullcontext
        with copies():
            loss = self.objective.loss(asked, rng, self.batch_size)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise Diverged("loss", step, self.learning_rate)
            loss.backward()
        gradients = [parameter.grad for parameter in self.factors.parameters.values() if parameter.grad is not None]
        if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            raise Diverged("gradient", step, self.learning_rate)
        return value


@dataclass
class TrainingSampler(comfy.samplers.Sampler):
    """Trains instead of sampling; what the host makes of the return value is not used."""

    training: Training
    until: int

    def sample(self, model_wrap: Any, sigmas: Tensor, extra_args: dict, callback: Any, noise: Tensor,  # type: ignore[override]
               latent_image: Any = None, denoise_mask: Any = None, disable_pbar: bool = False) -> Tensor:  # fmt: skip
        training, factors, network = self.training, self.training.factors, model_wrap.inner_model
        before = comfy.model_management.in_training
        with torch.inference_mode(False), torch.enable_grad():
            asked = Asked(model_wrap, extra_args["model_options"])
            try:
                comfy.model_management.in_training = True  # the host then leaves out what has no way back
                with differentiable(network), factors.applied(network):
                    while len(training.losses) < self.until:
                        training.step(asked)
            finally:
                comfy.model_management.in_training = before
                training.optimiser.zero_grad(set_to_none=True)
        return noise
