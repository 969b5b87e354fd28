"""Peak memory of a run with SEGA beside a plain run with as many conditionings.

The plain run's positive is combined of N + 1 conditionings, as ConditioningCombine makes it, so that both evaluate
batches of N + 2 entries. On a CPU the peak is that of all live allocations of torch after the weights are loaded; as a
check, that of the resident memory of a process of its own. On a GPU it is torch's own count.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.samplers
import torch
from torch.profiler import ProfilerActivity, profile

from . import models
from .steering import sample, steer
from .tables import markdown, number

MB = 1e6


@dataclass(frozen=True)
class Plan:
    """What to run. A peak is the same in every run, so one is enough."""

    shape: models.Shape
    counts: tuple[int, ...] = (1, 2, 4, 8)
    steps: int = 4


def plans(quick: bool) -> list[Plan]:
    if quick:
        return [
            Plan(models.Shape("tiny", models.SD15, 32, 8), counts=(1, 2)),
            Plan(models.Shape("tiny Flux", models.TINY_FLUX, 48, 8), counts=(1,)),
        ]
    if torch.cuda.is_available():
        return [
            Plan(models.Shape("SD 1.5", models.SD15, 320, 64)),
            Plan(models.Shape("SDXL", models.SDXL, 320, 128)),
            Plan(models.Shape("Flux", models.FLUX, 3072, 128), counts=(1, 2)),
        ]
    return [Plan(models.Shape(f"SD 1.5 at 64 channels, {side} x {side}", models.SD15, 64, side)) for side in (16, 32)]


def peak(run: Callable[[], Any]) -> int:
    """Bytes above those that were held before."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    results: Any = profiled.profiler
    changes = [(e.start_ns(), e.nbytes()) for e in results.kineto_results.events() if e.name() == "[memory]"]
    held = highest = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        highest = max(highest, held)
    return highest


def resident_peak(run: Callable[[], Any]) -> int | None:
    """Bytes of the largest resident memory of a copy of this process that does the run; Linux only."""
    if sys.platform != "linux" or torch.cuda.is_available():
        return None
    import resource

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run()
            os.write(writing, struct.pack("q", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    return struct.unpack("q", found)[0]


def run(plan: Plan) -> list[dict[str, Any]]:
    """Rows of one plan."""
    shape = plan.shape
    model = models.load(shape)
    positive, negative = (models.conditioning(shape, seed) for seed in (1, 2))
    concepts = [models.conditioning(shape, 10 + i) for i in range(max(plan.counts))]
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", plan.steps)
    noise = models.noise(shape, 1)
    weights = sum(weight.nbytes for weight in model.model.diffusion_model.parameters())
    found = []
    for count in plan.counts:
        combined = positive + [entry for concept in concepts[:count] for entry in concept]
        steered = steer(model, concepts[:count], start=0.0)
        ways = [
            lambda combined=combined: sample(model, combined, negative, noise, sigmas, shape.cfg),
            lambda steered=steered: sample(steered, positive, negative, noise, sigmas, shape.cfg),
        ]
        comfy.model_management.load_models_gpu([model])
        for way in ways:
            way()
        plain, ours = (peak(way) for way in ways)
        plain_resident, our_resident = (resident_peak(way) for way in ways)
        found.append({
            "model": shape.name, "concepts": count, "plain_bytes": plain, "our_bytes": ours, "of_plain": ours / plain,
            "of_plain_with_weights": (ours + weights) / (plain + weights),
            "of_plain_resident": our_resident / plain_resident if our_resident and plain_resident else None,
        })  # fmt: skip
    return found


def rows(quick: bool) -> list[dict[str, Any]]:
    """Everything, in the order of the table. quick: tiny models, to see that it runs."""
    with torch.inference_mode():
        return [row for plan in plans(quick) for row in run(plan)]


def table(found: list[dict[str, Any]]) -> str:
    """Markdown; docs/performance.md says what the columns are."""
    titles = ["model", "concepts", "ours, MB", "plain, MB", "ours / plain", "with the weights", "resident memory"]
    lines = [
        [
            row["model"], str(row["concepts"]), number(row["our_bytes"] / MB, 2), number(row["plain_bytes"] / MB, 2),
            number(row["of_plain"]), number(row["of_plain_with_weights"]), number(row["of_plain_resident"]),
        ]
        for row in found
    ]  # fmt: skip
    return markdown(titles, lines)
