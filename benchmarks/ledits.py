"""LEDITS++ against the same job by this pack: invert a picture and edit it along concepts.

LEDITS++: draws a noisy state for each step and evaluates the empty prompt once a step for the noise between them; then
evaluates the empty prompt and every concept in every step, masks each direction by cross-attention and by size, adds.
Ours: DDIM Invert (`ddim`, one evaluation of the empty prompt a step) along the same levels, then SEGA over a run with
the empty prompt at cfg 1. Two methods, so the pictures are not the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import comfy.model_management
import torch
from semantic_steering.nodes.inversion import DDIMInvert  # pyright: ignore[reportMissingImports]

from . import models, peers
from .rounds import Way, measure, ratio
from .steering import MOMENTUM, NO_MOMENTUM, SCALE, THRESHOLD, WARM_UP, sample, steer
from .tables import markdown, number

SKIP = 0.15  # LEDITS++'s default: this share of further, noisier steps is left out
# Ours and theirs warm up after the same number of steps; momentum needs the estimates before that, without it they are
# not made.
SETTINGS = {"all steps": (0.0, MOMENTUM), "warm-up": (WARM_UP, NO_MOMENTUM)}


@dataclass(frozen=True)
class Plan:
    """What to run. steps: of the inversion, and of the edit."""

    shape: models.Shape
    counts: tuple[int, ...] = (1, 2, 4, 8)
    steps: int = 8
    rounds: int = 7
    warm_up: int = 0


def plans(quick: bool) -> list[Plan]:
    if quick:
        return [Plan(models.Shape("tiny", models.SD15, 32, 8), counts=(1, 2), steps=5, rounds=1)]
    if torch.cuda.is_available():
        return [Plan(models.Shape("SD 1.5", models.SD15, 320, 64), steps=20, rounds=9, warm_up=1)]
    return [Plan(models.Shape("SD 1.5 at 64 channels", models.SD15, 64, 16))]


def ways(plan: Plan) -> dict[tuple[int, str], tuple[Way, Way]]:
    """By number of concepts and setting: ours and theirs."""
    shape, steps = plan.shape, plan.steps
    model = models.load(shape)
    network = model.model.diffusion_model
    empty = models.conditioning(shape, 1)
    concepts = [models.conditioning(shape, 10 + i) for i in range(max(plan.counts))]
    unet = peers.reference_unet(model, comfy.model_management.get_torch_device())
    reference = peers.LEdits(unet, empty, concepts)
    picture = models.noise(shape, 1)
    samples = model.get_model_object("latent_format").process_out(picture)
    model_sampling = model.get_model_object("model_sampling")
    timesteps = reference.timesteps(steps, SKIP)
    sigmas = torch.cat([model_sampling.sigmas[timesteps].cpu(), torch.zeros(1)])

    def percent_before(step: int) -> float:
        """A start_percent whose level lies halfway between those of step - 1 and step."""
        return 1 - (timesteps[step - 1] + timesteps[step]) / 2 / (peers.TRAINED_STEPS - 1) if step else 0.0

    def ours(count: int, start: float, momentum: tuple[float, float]) -> torch.Tensor:
        (_, noise, forward, *_) = DDIMInvert.execute(
            model, empty, {"samples": samples}, method="ddim", sigmas=sigmas
        ).args
        steered = steer(model, concepts[:count], momentum, percent_before(round(steps * start)))
        started = noise.generate_noise({"samples": samples})
        return sample(steered, empty, empty, started, forward, 1.0, samples)

    def theirs(count: int, start: float) -> torch.Tensor:
        generator = torch.Generator(unet.device).manual_seed(0)
        return reference(
            picture, steps, SKIP, count, generator, edit_guidance_scale=SCALE, edit_threshold=THRESHOLD,
            edit_warmup_steps=round(steps * start),
        )  # fmt: skip

    return {
        (count, name): (
            Way(lambda count=count, start=start, momentum=momentum: ours(count, start, momentum), network),
            Way(lambda count=count, start=start: theirs(count, start), unet),
        )
        for count in plan.counts
        for name, (start, momentum) in SETTINGS.items()
    }


def run(plan: Plan) -> list[dict[str, Any]]:
    """Rows of one plan: medians over the rounds."""
    found = ways(plan)
    measure([way for pair in found.values() for way in pair], plan.rounds, plan.warm_up, plan.shape.name)
    return [
        {
            "model": plan.shape.name,
            "concepts": count,
            "setting": setting,
            "rounds": plan.rounds,
            "steps": plan.steps,
            "ours_s": median(ours.seconds),
            "theirs_s": median(theirs.seconds),
            "of_theirs": ratio(ours.seconds, theirs.seconds),
            "entries": ours.entries,
            "their_entries": theirs.entries,
            "by_entries": ours.entries / theirs.entries,
        }
        for (count, setting), (ours, theirs) in found.items()
    ]


def rows(quick: bool) -> list[dict[str, Any]]:
    """Everything, in the order of the table. quick: a tiny model once, to see that it runs."""
    with torch.inference_mode():
        return [row for plan in plans(quick) for row in run(plan)]


def table(found: list[dict[str, Any]]) -> str:
    """Markdown; docs/performance.md says what the columns are."""
    titles = [
        "model", "concepts", "setting", "ours, s", "theirs, s", "ours / theirs", "by entries", "entries, ours",
        "theirs", "rounds",
    ]  # fmt: skip
    lines = [
        [
            row["model"], str(row["concepts"]), row["setting"], number(row["ours_s"]), number(row["theirs_s"]),
            number(row["of_theirs"]), number(row["by_entries"]), str(row["entries"]), str(row["their_entries"]),
            str(row["rounds"]),
        ]
        for row in found
    ]  # fmt: skip
    return markdown(titles, lines)
