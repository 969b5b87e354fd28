"""Concept sliders with a window, against the stock LoRA loader and ComfyUI's own hook keyframes.

All ways are run in turn on one model with the same LoRAs and inputs. Every way makes the same picture, which is
measured too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.samplers
import comfy.sd
import torch
from semantic_steering.nodes.sliders import SliderLoRALoader  # pyright: ignore[reportMissingImports]
from torch import Tensor

from . import models, rounds
from .tables import markdown, number
from .timing import Timing, timed_run

# One evaluation of two entries: at cfg 1 a slider of the positive only acts on all, but runs as forward hooks.
PICTURES = 2
WINDOWS = {"one": (0.2,), "four": (0.1, 0.2, 0.4, 0.5)}  # where windows start; all last until the end
STRENGTH = 0.3  # of all sliders together
WAYS = {
    "bare": "no LoRA",
    "stock": "stock LoRA loader",
    "switched": "Slider LoRA Loader",
    "hooks": "the same, forward hooks",
    "keyframes": "ComfyUI's hook keyframes",
}


@dataclass(frozen=True)
class Plan:
    """What to run. steps: enough that the four windows start in steps of their own; warm_up: rounds not counted."""

    shape: models.Shape
    counts: tuple[int, ...] = (1, 10, 50)
    steps: int = 8
    rounds: int = 7
    warm_up: int = 1


@dataclass
class Variant:
    """One way to run some sliders: the MODEL, and the positive and the negative conditioning."""

    way: str
    sliders: int
    windows: str
    model: Any
    conds: list[list]
    timings: list[Timing] = field(default_factory=list)
    result: Tensor | None = None


def plans(quick: bool) -> list[Plan]:
    if quick:
        return [Plan(models.Shape("tiny", models.TINY, 32, 8), counts=(1, 4, 10), rounds=1, warm_up=0)]
    if torch.cuda.is_available():
        shapes = [models.Shape("SD 1.5", models.SD15, 320, 64), models.Shape("SDXL", models.SDXL, 320, 128)]
        return [Plan(shape, steps=20, rounds=9) for shape in shapes]
    return [Plan(models.Shape("SD 1.5 at 96 channels", models.SD15, 96, 16))]


def stock(model: Any, states: Sequence[dict], strength: float) -> Any:
    """LoraLoaderModelOnly, chained."""
    for state in states:
        model, _ = comfy.sd.load_lora_for_models(model, None, state, strength, 0.0)
    return model


def chained(model: Any, states: Sequence[dict], strength: float, starts: Sequence[float], apply_to: str) -> Any:
    """Slider LoRA Loader, chained; the windows in turn."""
    for i, state in enumerate(states):
        window = {"start_percent": starts[i % len(starts)], "end_percent": 1.0}
        output = SliderLoRALoader.execute(model=model, slider=state, strength=strength, apply_to=apply_to, **window)
        model = output.result[0]
    return model


def keyframed(conds: list[list], states: Sequence[dict], strength: float, starts: Sequence[float]) -> list[list]:
    """Create Hook LoRA, Set Hook Keyframes (off, then on from the start), and Cond Pair Set Props."""
    groups = [comfy.hooks.create_hook_lora(state, strength, 0.0) for state in states]
    parts = []
    for i, start in enumerate(starts):
        part = comfy.hooks.HookGroup.combine_all_hooks(groups[i :: len(starts)])
        if part is None:
            continue
        keyframes = comfy.hooks.HookKeyframeGroup()
        keyframes.add(comfy.hooks.HookKeyframe(strength=0.0, start_percent=0.0))
        keyframes.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=start))
        part.set_keyframes_on_hooks(keyframes)
        parts.append(part)
    return comfy.hooks.set_conds_props(conds, 1.0, "default", hooks=comfy.hooks.HookGroup.combine_all_hooks(parts))


def variants(model: Any, conds: list[list], states: list[dict], counts: Sequence[int]) -> list[Variant]:
    """The bare model and, for each number of sliders and windows, all ways to run them."""
    found = [Variant("bare", 0, "", model, conds)]
    for count in counts:
        used, strength = states[:count], STRENGTH / math.sqrt(count)
        found.append(Variant("stock", count, "", stock(model, used, strength), conds))
        for name, starts in WINDOWS.items():
            if len(starts) > count:
                continue
            found += [
                Variant("switched", count, name, chained(model, used, strength, starts, "both"), conds),
                Variant("hooks", count, name, chained(model, used, strength, starts, "positive"), conds),
                Variant("keyframes", count, name, model, keyframed(conds, used, strength, starts)),
            ]
    return found


def steady(sigmas: Tensor, model_sampling: Any) -> list[int]:
    """The steps in which all sliders of all windows act and no weights are written."""
    last = float(model_sampling.percent_to_sigma(max(max(starts) for starts in WINDOWS.values())))
    inside = [i for i, sigma in enumerate(sigmas[:-1].tolist()) if sigma <= last]
    return inside[1:]


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Rows of one plan: medians over the rounds."""
    model = models.load(plan.shape)
    states = [models.lora(model, seed) for seed in range(max(plan.counts))]
    conds = [models.conditioning(plan.shape, seed) for seed in (1, 2)]
    noise = models.noise(plan.shape, PICTURES)
    model_sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(model_sampling, "normal", plan.steps)
    found = variants(model, conds, states, plan.counts)
    for variant, counts in rounds.turns(found, plan.rounds, plan.warm_up, plan.shape.name):
        comfy.model_management.load_models_gpu([model])  # every run begins with the weights as they are
        variant.result, timing = timed_run(variant.model, variant.conds, noise, sigmas)
        if counts:
            variant.timings.append(timing)
    patcher = type(model).__name__
    return [
        {"model": plan.shape.name, "patcher": patcher, **row}
        for row in summaries(found, steady(sigmas, model_sampling))
    ]


def summaries(found: list[Variant], steps: list[int]) -> list[dict[str, Any]]:
    """A row a variant. steps: those whose seconds are compared."""
    bare, stocks = found[0], {variant.sliders: variant for variant in found if variant.way == "stock"}
    switched = {(variant.sliders, variant.windows): variant for variant in found if variant.way == "switched"}
    return [
        {
            "way": variant.way,
            "sliders": variant.sliders,
            "windows": variant.windows,
            "rounds": len(variant.timings),
            "step_s": median(step_of(timing, steps) for timing in variant.timings),
            "of_stock": ratio(variant, stocks.get(variant.sliders), steps),
            "of_bare": ratio(variant, bare, steps),
            **changes(variant.timings, steps),
            "start_s": median(timing.start for timing in variant.timings),
            "run_s": median(timing.total for timing in variant.timings),
            "difference": difference(variant, switched.get((variant.sliders, variant.windows))),
        }
        for variant in found
    ]


def step_of(timing: Timing, steps: list[int]) -> float:
    """Seconds of a step of one run."""
    return median(timing.steps[i] for i in steps)


def ratio(variant: Variant, other: Variant | None, steps: list[int]) -> float | None:
    """Of seconds of a step, taken round by round."""
    if other is None:
        return None
    one, two = ([step_of(timing, steps) for timing in found.timings] for found in (variant, other))
    return rounds.ratio(one, two)


def changes(timings: list[Timing], steps: list[int]) -> dict[str, Any]:
    """How often a run writes weights between its first evaluation and its last, the seconds of one such writing, and
    what else its step takes longer than others."""
    found = [
        (writing, step - step_of(timing, steps))
        for timing in timings
        for step, writing in zip(timing.steps, timing.writes, strict=True)
        if writing
    ]
    return {
        "changes": len(found) // len(timings),
        "change_s": median(writing for writing, _ in found) if found else None,
        "rest_of_change_s": median(rest for _, rest in found) if found else None,
    }


def difference(variant: Variant, other: Variant | None) -> float | None:
    """How far the pictures of two ways are from each other, relative to their size."""
    if other is None:
        return None
    assert variant.result is not None and other.result is not None  # every variant has run
    return rounds.difference(variant.result, other.result)


def rows(quick: bool) -> list[dict[str, Any]]:
    """Everything, in the order of the table. quick: a tiny model once, to see that it runs."""
    with torch.inference_mode():
        return [row for plan in plans(quick) for row in measure(plan)]


def table(found: list[dict[str, Any]]) -> str:
    """Markdown; docs/performance.md says what the columns are."""
    titles = [
        "model", "sliders", "windows", "way", "step, s", "of stock LoRA", "of bare", "changes", "one change, s",
        "more in that step, s", "start, s", "run, s", "rounds",
    ]  # fmt: skip
    lines = []
    for row in found:
        lines.append([
            row["model"], str(row["sliders"]), row["windows"], WAYS[row["way"]], number(row["step_s"]),
            number(row["of_stock"]), number(row["of_bare"]), str(row["changes"]), number(row["change_s"]),
            number(row["rest_of_change_s"]), number(row["start_s"]), number(row["run_s"], 2), str(row["rounds"]),
        ])  # fmt: skip
    return markdown(titles, lines)
