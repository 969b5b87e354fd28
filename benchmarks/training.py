"""A step of training a slider: its time against the plain forward passes of the same pictures, and its memory.

A step of B states is a forward pass of 2 B pictures (both signs) and a backward pass; "recomputed" adds a second
forward pass and keeps the blocks' inputs alone. What the frozen model says of a state is asked once and is no part of
it here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from semantic_steering.nodes.host.training.asking import Asked  # pyright: ignore[reportMissingImports]
from semantic_steering.nodes.host.training.bank import walked  # pyright: ignore[reportMissingImports]
from semantic_steering.nodes.host.training.factors import Factors  # pyright: ignore[reportMissingImports]
from semantic_steering.nodes.host.training.layers import chosen  # pyright: ignore[reportMissingImports]
from semantic_steering.nodes.host.training.run import Training  # pyright: ignore[reportMissingImports]
from semantic_steering.nodes.host.training.text import TARGET, TextObjective  # pyright: ignore[reportMissingImports]

from . import models
from .memory import peak
from .tables import markdown, number
from .timing import now

GIGABYTE = 1e9
FEW = 0.1  # of the range of levels: three states, so that their targets are soon known


@dataclass(frozen=True)
class Plan:
    """What to run. ways: states in memory together, and whether blocks are recomputed; rank: of the slider."""

    shape: models.Shape
    ways: tuple[tuple[int, bool], ...] = ((1, False), (2, False), (4, False), (1, True), (4, True))
    ranks: tuple[int, ...] = (4, 16)
    steps: int = 3


def plans(quick: bool) -> list[Plan]:
    if quick:
        return [Plan(models.Shape("tiny", models.SD15, 32, 8), ((1, False), (2, True)), (2,), 1)]
    if torch.cuda.is_available():
        return [
            Plan(models.Shape("SD 1.5", models.SD15, 320, 64)),
            Plan(models.Shape("SDXL", models.SDXL, 320, 128)),
        ]
    return [Plan(models.Shape("SD 1.5 at 64 channels", models.SD15, 64, 16))]


@dataclass
class Measured(Training):
    """With a clock. seconds, peaks: of each step; forwards: of a forward pass of the same pictures alone."""

    seconds: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    forwards: list[float] = field(default_factory=list)

    def step(self, asked: Asked) -> None:
        started = now()
        super().step(asked)
        self.seconds.append(now() - started)

    def measured(self, steps: int) -> None:
        """After as many that are not counted: the targets of all states are known then."""
        self.run(len(self.losses) + 4)
        self.seconds.clear()
        self.run(len(self.losses) + steps)
        self.peaks.append(peak(lambda: self.run(len(self.losses) + 1)))
        self.seconds.pop()
        own, self.step = self.step, self._forward  # type: ignore[method-assign]
        try:
            self.run(len(self.losses) + steps + 1)
        finally:
            self.step = own  # type: ignore[method-assign]
        del self.forwards[0]

    @torch.no_grad()
    def _forward(self, asked: Asked) -> None:
        x = self.states[:1].repeat(2 * self.at_once, *[1] * (self.states.ndim - 1)).to(asked.device)
        sigma = torch.full((len(x),), 1.0, device=asked.device)
        started = now()
        asked.trained(x, sigma, TARGET, torch.ones(len(x), device=asked.device))
        self.forwards.append(now() - started)
        self.losses.append(0.0)


def run(plan: Plan) -> list[dict[str, Any]]:
    """Rows of one plan."""
    shape = plan.shape
    with torch.inference_mode():
        model = models.load(shape, disable_dynamic=True)
        conds = {name: models.conditioning(shape, seed) for seed, name in enumerate((TARGET, "plus 0", "minus 0"), 1)}
        empty = torch.zeros(1, shape.channels, shape.side, shape.side)
        bank = walked(model, conds[TARGET], empty, 0.0, FEW, 7, 1, trajectories=1)
        objective = TextObjective(bank, 0, 1.5)
        found = []
        for rank in plan.ranks:
            for at_once, small in plan.ways if rank == plan.ranks[0] else plan.ways[:1]:
                factors = Factors(chosen(model, "no cross-attention", rank), rank, 1.0, 7)
                training = Measured(model, conds, objective, factors, 1e-4, at_once, 7, at_once=at_once, small=small)
                training.measured(plan.steps)
                found.append({
                    "model": shape.name, "rank": rank, "at_once": training.at_once, "recomputed": training.small,
                    "seconds": median(training.seconds), "forward_seconds": median(training.forwards),
                    "ratio": median(training.seconds) / median(training.forwards), "peak": training.peaks[0],
                    "host_figure": model.memory_required([2 * at_once, *bank.x.shape[1:]]),
                    "slider_bytes": sum(value.nbytes for value in factors.parameters.values()),
                    "finite": all(map(torch.isfinite, map(torch.tensor, training.losses))),
                })  # fmt: skip
    return found


def rows(quick: bool) -> list[dict[str, Any]]:
    return [row for plan in plans(quick) for row in run(plan)]


def table(found: list[dict[str, Any]]) -> str:
    titles = [
        "model", "rank", "states at once", "blocks recomputed", "s a step", "s a forward pass", "times it", "peak, GB",
        "of the host's figure",
    ]  # fmt: skip
    lines = [
        [row["model"], str(row["rank"]), str(row["at_once"]), "yes" if row["recomputed"] else "no",
         number(row["seconds"]), number(row["forward_seconds"]), number(row["ratio"], 2),
         number(row["peak"] / GIGABYTE, 3), number(row["peak"] / row["host_figure"], 1)]
        for row in found
    ]  # fmt: skip
    return markdown(titles, lines)
