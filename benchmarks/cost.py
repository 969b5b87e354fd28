"""How a run's time grows with concepts, steps and pixels, and how straight those lines are.

In every round each point runs once with SEGA and once without; `extra` is what SEGA adds to the plain run of the same
round. Momentum is used, so that every step evaluates every concept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import comfy.samplers
import numpy as np
import torch

from . import models
from .rounds import Way, measure, ratio
from .steering import sample, steer
from .tables import markdown, number

SERIES = ("concepts", "steps", "pixels")
KINDS = {"ours": "SEGA", "plain": "without", "extra": "what SEGA adds"}
COLOURS = {"ours": "C0", "plain": "C7", "extra": "C3"}


@dataclass(frozen=True)
class Point:
    """One run: concepts, steps and the latent's side."""

    concepts: int = 2
    steps: int = 5
    side: int = 16

    @property
    def pixels(self) -> int:
        """Cells of the latent; a UNet's picture has 64 pixels in each."""
        return self.side**2


@dataclass(frozen=True)
class Plan:
    """What to run: along each series one value changes and the others stay at `middle`."""

    shape: models.Shape
    middle: Point = Point()
    concepts: tuple[int, ...] = (0, 1, 2, 4, 6, 8)
    steps: tuple[int, ...] = (5, 10, 20, 40)
    sides: tuple[int, ...] = (8, 16, 24, 32, 40, 48)
    rounds: int = 7
    warm_up: int = 0

    def points(self) -> dict[str, list[Point]]:
        values = {"concepts": self.concepts, "steps": self.steps, "side": self.sides}
        lines = [[replace(self.middle, **{name: value}) for value in found] for name, found in values.items()]
        return dict(zip(SERIES, lines, strict=True))


def plan(quick: bool) -> Plan:
    if quick:
        shape = models.Shape("tiny", models.TINY, 32, 8)
        middle = Point(concepts=1, steps=2, side=8)
        return Plan(shape, middle, concepts=(0, 1, 2), steps=(2, 4, 6), sides=(8, 16, 24), rounds=1)
    if torch.cuda.is_available():
        middle, sides = Point(concepts=2, steps=10, side=64), (32, 48, 64, 96, 128)
        return Plan(models.Shape("SD 1.5", models.SD15, 320, 64), middle, sides=sides, warm_up=1)
    return Plan(models.Shape("SD 1.5 at 32 channels", models.SD15, 32, 16))


def ways(plan: Plan) -> dict[Point, tuple[Way, Way]]:
    """With SEGA and without, for every point once."""
    shape = plan.shape
    model = models.load(shape)
    network = model.model.diffusion_model
    positive, negative = (models.conditioning(shape, seed) for seed in (1, 2))
    concepts = [models.conditioning(shape, 10 + i) for i in range(max(plan.concepts))]
    model_sampling = model.get_model_object("model_sampling")

    def way(point: Point, count: int) -> Way:
        steered = steer(model, concepts[:count], start=0.0)
        noise = models.noise(replace(shape, side=point.side), 1)
        sigmas = comfy.samplers.calculate_sigmas(model_sampling, "normal", point.steps)
        return Way(lambda: sample(steered, positive, negative, noise, sigmas, shape.cfg), network)

    points = dict.fromkeys(point for line in plan.points().values() for point in line)
    return {point: (way(point, point.concepts), way(point, 0)) for point in points}


def fit(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """The least squares line: its slope, its value at 0, R², and the largest residual as a share of the largest y."""
    slope, start = np.polyfit(x, y, 1)
    residuals = np.asarray(y) - (slope * np.asarray(x) + start)
    spread = float(((np.asarray(y) - np.mean(y)) ** 2).sum())
    return {
        "slope": float(slope), "at_0": float(start), "r2": 1 - float((residuals**2).sum()) / spread,
        "largest_residual": float(np.abs(residuals).max()) / max(y),
    }  # fmt: skip


def run(plan: Plan) -> list[dict[str, Any]]:
    """A row a point of each series, then a row a fitted line."""
    found = ways(plan)
    measure([way for pair in found.values() for way in pair], plan.rounds, plan.warm_up, plan.shape.name)
    points, lines = [], []
    for series, line in plan.points().items():
        start = len(points)
        for point in line:
            ours, plain = (way.seconds for way in found[point])
            points.append({
                "kind": "point", "model": plan.shape.name, "series": series, "concepts": point.concepts,
                "steps": point.steps, "pixels": point.pixels, "ours": median(ours), "plain": median(plain),
                "extra": median(a - b for a, b in zip(ours, plain, strict=True)), "of_plain": ratio(ours, plain),
                "rounds": plan.rounds,
            })  # fmt: skip
        measured = points[start:]
        for kind in KINDS:
            if (series, kind) == ("concepts", "plain"):  # the same run at every number of concepts
                continue
            values = fit([row[series] for row in measured], [row[kind] for row in measured])
            lines.append({"kind": "line", "model": plan.shape.name, "series": series, "of": kind, **values})
    return [*points, *lines]


def rows(quick: bool) -> list[dict[str, Any]]:
    """Everything, in the order of the tables. quick: a tiny model once, to see that it runs."""
    with torch.inference_mode():
        return run(plan(quick))


def table(found: list[dict[str, Any]]) -> str:
    """Markdown, two tables; docs/performance.md says what the columns are."""
    points = [
        [
            row["series"], str(row["concepts"]), str(row["steps"]), str(row["pixels"]), number(row["ours"]),
            number(row["plain"]), number(row["extra"]), number(row["of_plain"], 2), str(row["rounds"]),
        ]
        for row in found
        if row["kind"] == "point"
    ]  # fmt: skip
    lines = [
        [
            row["series"], KINDS[row["of"]], f"{row['slope']:.2e}", number(row["at_0"]), number(row["r2"], 4),
            f"{100 * row['largest_residual']:.1f} %",
        ]
        for row in found
        if row["kind"] == "line"
    ]  # fmt: skip
    titles = ["series", "concepts", "steps", "cells", "SEGA, s", "without, s", "extra, s", "SEGA / without", "rounds"]
    fitted = ["series", "of", "s each", "s at 0", "R²", "largest residual"]
    return "\n\n".join([markdown(titles, points), markdown(fitted, lines)])


def plot(found: list[dict[str, Any]], folder: Path) -> None:
    """cost.webp: seconds along each series with their fitted lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(9.6, 3.4), dpi=110)
    labels = {"concepts": "concepts", "steps": "steps", "pixels": "cells of the latent"}
    for axis, (series, label) in zip(axes, labels.items(), strict=True):
        points = [row for row in found if row["kind"] == "point" and row["series"] == series]
        x = [row[series] for row in points]
        for kind, name in KINDS.items():
            axis.plot(x, [row[kind] for row in points], "o", color=COLOURS[kind], markersize=4, label=name)
        for line in found:
            if line["kind"] == "line" and line["series"] == series:
                ends = np.array([0, max(x)])
                axis.plot(ends, line["slope"] * ends + line["at_0"], color=COLOURS[line["of"]], linewidth=1)
        axis.set_xlabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds of a run")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(folder / "cost.webp", pil_kwargs={"quality": 65, "method": 6})
    pyplot.close(figure)
