"""What SEGA's own arithmetic adds to a step: noise_difference and edit_term beside one evaluation of the network.

A step with N concepts evaluates N + 2 entries (negative, positive, concepts) and then computes one edit term. On a CPU
SD 1.5's full UNet is evaluated once and SDXL's seconds are reckoned from it by the number of operations; on a GPU both
are evaluated. Also which kernels the term consists of, and what sorting in place of selecting would take.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import comfy.model_management
import comfy.samplers
import torch
from semantic_steering.guidance_core import (  # pyright: ignore[reportMissingImports]
    Concept,
    Momentum,
    SigmaWindow,
    edit_term,
    noise_difference,
)
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from . import models
from .steering import MOMENTUM, SCALE, THRESHOLD
from .tables import markdown, number
from .timing import now, timed_run

SIGMA = 2.0
ENTRIES = 2  # pictures in the evaluation that is timed
REPEATS = 20  # of the term in one measurement
PROFILED, PROFILES = 8, 9  # concepts; calls that are profiled
KERNELS = 6  # rows of the profile
QUANTILES = {
    "sort": lambda rows, rank: rows.sort(dim=-1).values[..., rank],
    "kthvalue": lambda rows, rank: rows.kthvalue(rank + 1, dim=-1).values,
    "topk": lambda rows, rank: rows.topk(rows.shape[-1] - rank).values[..., -1],
}


@dataclass(frozen=True)
class Plan:
    """What to run. evaluated: time the network itself; else its operations are counted."""

    shape: models.Shape
    evaluated: bool = True
    counts: tuple[int, ...] = (1, 2, 4, 8, 16)
    rounds: int = 9


def plans(quick: bool) -> list[Plan]:
    """The first one's network is always evaluated."""
    gpu = torch.cuda.is_available()
    if quick:
        tiny = {"counts": (1, 4), "rounds": 1}
        return [
            Plan(models.Shape("tiny", models.SD15, 32, 8), **tiny),
            Plan(models.Shape("tiny, counted", models.SD15, 32, 16), evaluated=False, **tiny),
        ]
    return [
        Plan(models.Shape("SD 1.5, 512 x 512", models.SD15, 320, 64)),
        Plan(models.Shape("SDXL, 1024 x 1024", models.SDXL, 320, 128), evaluated=gpu),
    ]


def timed(function: Callable[[], Any], rounds: int, repeats: int = 1) -> float:
    """Seconds of one call: the median over the rounds, of several calls each."""
    found = []
    for _ in range(rounds):
        started = now()
        for _ in range(repeats):
            function()
        found.append((now() - started) / repeats)
    return median(found)


def operations(shape: models.Shape) -> float:
    """Multiplications and additions of one entry, counted on torch's meta device: no memory, no arithmetic."""
    meta = torch.device("meta")
    network = models.whole(shape.config(torch.float32), meta).diffusion_model
    x = torch.zeros(1, shape.channels, shape.side, shape.side, device=meta)
    context = torch.zeros(1, 77, shape.layout["context_dim"], device=meta)
    adm = shape.layout["adm_in_channels"]
    extra = {} if adm is None else {"y": torch.zeros(1, adm, device=meta)}
    with FlopCounterMode(display=False) as counter:
        network(x, torch.zeros(1, device=meta), context=context, **extra)
    return counter.get_total_flops()


def entry_seconds(plan: Plan) -> float:
    """One entry of a batch of two, measured: on a CPU in one evaluation, which takes long enough to be exact."""
    model = models.load(plan.shape)
    steps = plan.rounds if torch.cuda.is_available() else 1
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", steps)
    conds = [models.conditioning(plan.shape, seed) for seed in (1, 2)]
    _, timing = timed_run(model, conds, models.noise(plan.shape, ENTRIES), sigmas)
    return median(timing.steps) / ENTRIES


class Term:
    """Everything that a step computes of its own for some concepts, in its dearest case: momentum that is used."""

    def __init__(self, shape: models.Shape, count: int):
        device = comfy.model_management.get_torch_device()
        size = (count + 1, 1, shape.channels, shape.side, shape.side)
        self.base, *self.estimates = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)
        self.concepts = [Concept(SCALE, THRESHOLD, SigmaWindow(10.0, 0.0))] * count
        self.momentum, self.nu = Momentum(*MOMENTUM), {}
        _, self.nu = self()

    def __call__(self) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        differences = {i: noise_difference(found, self.base, SIGMA) for i, found in enumerate(self.estimates)}
        return edit_term(differences, self.concepts, SIGMA, self.momentum, self.nu)


def kernels(term: Term) -> list[tuple[str, float]]:
    """The operations that the term spends most time in, with their share of it: medians over profiles of one call."""
    gpu = torch.cuda.is_available()
    found: dict[str, list[float]] = {}
    term()
    for _ in range(PROFILES):
        with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as profiled:
            term()
        for event in profiled.key_averages():
            spent = event.self_device_time_total if gpu else event.self_cpu_time_total
            found.setdefault(event.key, []).append(spent)
    medians = {name: median(times) for name, times in found.items()}
    total = sum(medians.values())
    ordered = sorted(medians.items(), key=lambda pair: -pair[1])
    return [(name, time / total) for name, time in ordered[:KERNELS]]


def run(found: list[Plan]) -> list[dict[str, Any]]:
    """Rows: the term's share of a step, its kernels, and the ways to find a rank."""
    first = found[0]
    seconds, counted = entry_seconds(first), operations(first.shape)
    shares, profiles, ranks = [], [], []
    for plan in found:
        entry, flops = seconds, operations(plan.shape)
        if plan is not first:
            entry = entry_seconds(plan) if plan.evaluated else seconds * flops / counted
        for count in plan.counts:
            spent = timed(Term(plan.shape, count), plan.rounds, REPEATS)
            step = entry * (count + 2)
            shares.append({
                "kind": "share", "model": plan.shape.name, "concepts": count, "term_ms": 1000 * spent, "step_s": step,
                "share": spent / step, "tera_operations": flops * (count + 2) / 1e12, "evaluated": plan.evaluated,
                "rounds": plan.rounds,
            })  # fmt: skip
        profiles += [
            {"kind": "profile", "model": plan.shape.name, "concepts": PROFILED, "operation": name, "share": share}
            for name, share in kernels(Term(plan.shape, PROFILED))
        ]
        ranks += rank_rows(plan)
    return [*shares, *profiles, *ranks]


def rank_rows(plan: Plan) -> list[dict[str, Any]]:
    """Each way to find an element by its rank, interleaved."""
    generator = torch.Generator().manual_seed(1)
    size = (PROFILED, 1, plan.shape.channels, plan.shape.side**2)
    rows = torch.randn(size, generator=generator).abs().to(comfy.model_management.get_torch_device())
    spent: dict[tuple[str, float], list[float]] = {}
    for _, (way, function), threshold in itertools.product(range(plan.rounds), QUANTILES.items(), (0.9, 0.5)):
        rank = int(threshold * (rows.shape[-1] - 1))
        spent.setdefault((way, threshold), []).append(timed(partial(function, rows, rank), 1, REPEATS))
    return [
        {
            "kind": "rank", "model": plan.shape.name, "concepts": PROFILED, "way": way, "threshold": threshold,
            "ms": 1000 * median(seconds), "rounds": plan.rounds,
        }
        for (way, threshold), seconds in spent.items()
    ]  # fmt: skip


def rows(quick: bool) -> list[dict[str, Any]]:
    """Everything, in the order of the tables. quick: a tiny model once, to see that it runs."""
    with torch.inference_mode():
        return run(plans(quick))


def table(found: list[dict[str, Any]]) -> str:
    """Markdown, three tables; docs/performance.md says what the columns are."""
    kinds = {kind: [row for row in found if row["kind"] == kind] for kind in ("share", "profile", "rank")}
    shares = [
        [
            row["model"], str(row["concepts"]), number(row["term_ms"], 2), number(row["step_s"], 3),
            "measured" if row["evaluated"] else "reckoned", number(row["tera_operations"], 2),
            f"{100 * row['share']:.4f} %", str(row["rounds"]),
        ]
        for row in kinds["share"]
    ]  # fmt: skip
    profiles = [
        [row["model"], str(row["concepts"]), f"`{row['operation']}`", f"{100 * row['share']:.0f} %"]
        for row in kinds["profile"]
    ]
    ranks = [
        [
            row["model"],
            str(row["concepts"]),
            row["way"],
            str(row["threshold"]),
            number(row["ms"], 2),
            str(row["rounds"]),
        ]
        for row in kinds["rank"]
    ]
    return "\n\n".join([
        markdown(["model", "concepts", "term, ms", "network, s", "", "10¹² operations", "share", "rounds"], shares),
        markdown(["model", "concepts", "operation of the term", "share of it"], profiles),
        markdown(["model", "concepts", "way to a rank", "threshold", "ms", "rounds"], ranks),
    ])  # fmt: skip
