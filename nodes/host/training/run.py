"""The training itself: steps of an objective through the host's guider, with only the slider's factors changing."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import comfy.model_management
import comfy.samplers
import torch
from torch import Tensor

from ..run.samplers import guider_for
from .asking import Asked, carry_strengths
from .factors import Factors
from .fetched import fetched_again
from .frozen import differentiable
from .recomputed import recomputed

logger = logging.getLogger("semantic_steering")

# What a loss is multiplied by before its way back through a network that computes in float16: a mean over a picture's
# elements has gradients below that type's smallest number. Halved where they overflow.
FLOAT16_SCALE = 2.0**16

DYNAMIC_OUT_OF_MEMORY = "VRAM grow failed"  # what the host's dynamic memory says, in an error of no class of its own


class Objective(Protocol):
    """What is trained. given: all the tensors that decide it. One of a diffusion model also has `states` [S, C, ...],
    where it is asked, in the model's internal latent space."""

    @property
    def given(self) -> tuple[Tensor, ...]: ...

    def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]:
        """What a step is about: `count` rows in each; all that is random comes from `rng`."""
        ...

    def loss(self, model: Any, *drawn: Tensor) -> Tensor:
        """The mean over rows of what was drawn. model: the network in training, as an `Asked` or another that knows
        what the objective asks."""
        ...


class Diverged(ValueError):
    """The loss, or its gradient, is no number any more."""

    def __init__(self, what: str, step: int, learning_rate: float):
        super().__init__(
            f"the {what} of step {step} is no number: lower learning_rate ({learning_rate:g} now; a third of it is a "
            "good next try), or guidance"
        )


class TooLittleMemory(ValueError):
    """Not even the smallest part of a step fits. what: that part, and what to change."""

    def __init__(self, what: str):
        super().__init__(f"there is too little memory for {what}")


@dataclass
class Training:
    """A slider on its way. All that a step changes is here: the factors, the optimiser's state and the losses.

    conds: {name: CONDITIONING} that the objective asks by. A step's random numbers follow from seed and step alone, so
    that a training goes on as if it had never stopped. at_once: rows of a step that are in memory together, 0 for all;
    small: whether blocks are recomputed on the way back. Both change by themselves where memory runs out.
    """

    model: Any
    conds: Mapping[str, Any]
    objective: Objective
    factors: Factors
    learning_rate: float
    batch_size: int
    seed: int
    losses: list[float] = field(default_factory=list)
    at_once: int = 0
    small: bool = False

    def __post_init__(self) -> None:
        self._keeps_copies = False
        self.at_once = self.at_once or self.batch_size
        self.scale = self._first_scale()
        self.factors.to(self.model.load_device)  # before there is anything beside them
        self.optimiser = torch.optim.Adam(self.factors.parameters.values(), lr=self.learning_rate)

    @property
    def states(self) -> Tensor:
        return self.objective.states  # type: ignore[attr-defined]

    def run(self, until: int, go_on: Callable[[], bool] = lambda: True) -> None:
        """Train on to a step, or to the first after which go_on says no. Raises Diverged, with the factors as the last
        good step left them, TooLittleMemory, and the host's InterruptProcessingException after Cancel, between two
        evaluations."""
        guider = guider_for(self.model, dict(self.conds))
        carry_strengths(guider, self.factors)
        # Both signs of a step, with a graph of what they are made of.
        empty = torch.zeros(2 * self.at_once, *self.states.shape[1:])
        sigmas = torch.tensor([float(self.model.get_model_object("model_sampling").sigma_max), 0.0])
        guider.sample(empty, empty, TrainingSampler(self, until, go_on), sigmas, disable_pbar=True)

    def steps(self, asked: Any, network: Any, until: int, go_on: Callable[[], bool]) -> None:
        """The same, once the network is loaded. network: that the factors' layers are named in."""
        before = comfy.model_management.in_training
        with torch.inference_mode(False), torch.enable_grad():
            try:
                comfy.model_management.in_training = True  # the host then leaves out what has no way back
                with differentiable(network), fetched_again(self.model, network), self.factors.applied(network):
                    while len(self.losses) < until:
                        self.step(asked)
                        if not go_on():
                            break
            finally:
                comfy.model_management.in_training = before
                self.optimiser.zero_grad(set_to_none=True)

    def step(self, asked: Any) -> None:
        value = None
        while value is None:
            value = self._tried(asked)
            if value is None:
                self.optimiser.zero_grad(set_to_none=True)
                comfy.model_management.soft_empty_cache()  # here, where no traceback holds what filled the memory
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.losses.append(value)

    def _tried(self, asked: Any) -> float | None:
        """The loss of the next step, with its gradients on the factors; None where it has to be tried another way."""
        try:
            value = self._backward(asked)
        except Exception as problem:
            if comfy.model_management.is_oom(problem) or DYNAMIC_OUT_OF_MEMORY in str(problem):
                self._ask_less()
            elif not self._keeps_copies and "modified by an inplace operation" in str(problem):
                # Flux and others write into what autograd has kept for its way back: from now on it keeps copies.
                self._keeps_copies = True
            else:
                raise
            return None
        step, rates = len(self.losses) + 1, self.learning_rate
        gradients = [parameter.grad for parameter in self.factors.parameters.values() if parameter.grad is not None]
        for gradient in gradients:
            gradient /= self.scale
        if all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            return value
        if self.scale == 1:
            raise Diverged("gradient", step, rates)
        self.scale /= 2
        return None

    def _ask_less(self) -> None:
        """Of what fills the memory. Raises TooLittleMemory where nothing is left to do."""
        if self.at_once > 1:
            self.at_once = (self.at_once + 1) // 2
        elif not self.small:
            self.small = True
        else:
            raise TooLittleMemory(
                "one step of training, even picture by picture and with all blocks computed twice: lower width and "
                "height, choose self-attention in layers, lower rank, or load the model in fewer bits (fp8)"
            )
        logger.info("out of memory: training goes on with %s", self.way)

    @property
    def way(self) -> str:
        """How a step is computed, for the log."""
        return f"{self.at_once} of {self.batch_size} at once{', blocks recomputed' if self.small else ''}"

    def _first_scale(self) -> float:
        return FLOAT16_SCALE if self.model.model.get_dtype_inference() == torch.float16 else 1.0

    def _smaller(self, asked: Any) -> contextlib.AbstractContextManager[None]:
        return recomputed(asked.model.diffusion_model, self.factors) if self.small else contextlib.nullcontext()

    def _backward(self, asked: Any) -> float:
        """The loss of the next step, with its gradients, times `scale`, on the factors."""
        step = len(self.losses) + 1
        rng = torch.Generator().manual_seed((self.seed + 7919 * step) % 2**63)
        drawn = self.objective.drawn(rng, self.batch_size)
        copies = torch.autograd.graph.allow_mutation_on_saved_tensors if self._keeps_copies else contextlib.nullcontext
        total = 0.0
        with self._smaller(asked):
            for part in zip(*(each.split(self.at_once) for each in drawn), strict=True):
                with copies():
                    loss = self.objective.loss(asked, *part) * (len(part[0]) / self.batch_size)
                    value = float(loss.detach())
                    if not math.isfinite(value):
                        raise Diverged("loss", step, self.learning_rate)
                    (loss * self.scale).backward()
                total += value
        return total


@dataclass
class TrainingSampler(comfy.samplers.Sampler):
    """Trains instead of sampling; what the host makes of the return value is not used."""

    training: Training
    until: int
    go_on: Callable[[], bool]

    def sample(self, model_wrap: Any, sigmas: Tensor, extra_args: dict, callback: Any, noise: Tensor,  # type: ignore[override]
               latent_image: Any = None, denoise_mask: Any = None, disable_pbar: bool = False) -> Tensor:  # fmt: skip
        with torch.inference_mode(False):
            asked = Asked(model_wrap, extra_args["model_options"])
        self.training.steps(asked, model_wrap.inner_model, self.until, self.go_on)
        return noise
