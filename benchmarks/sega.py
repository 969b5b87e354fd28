"""SEGA against the authors' implementation: whole runs without VAE and text encoder, with the same weights.

Both start from the same noise and take the same steps (DDIM is Euler on ComfyUI's ddim_uniform schedule), so that they
make the same latents, which is measured too. Models that the authors' pipeline cannot take are compared with a run
without concepts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import comfy.model_management
import comfy.samplers
import torch

from . import models, peers
from .rounds import Way, difference, measure, ratio
from .steering import MOMENTUM, NO_MOMENTUM, SCALE, THRESHOLD, WARM_UP, sample, steer
from .tables import markdown, number, small

EARLY_END = 0.6  # of the steps


@dataclass(frozen=True)
class Setting:
    """Of all concepts of a run. end: share of the steps after which they no longer act; refresh: evaluated every n-th
    step only, which the authors' code cannot: then both make different latents."""

    name: str
    momentum: tuple[float, float]
    end: float = 1.0
    refresh: int = 1


SETTINGS = (
    Setting("momentum", MOMENTUM),
    Setting("no momentum", NO_MOMENTUM),
    Setting("no momentum, early end", NO_MOMENTUM, EARLY_END),
    Setting("no momentum, refresh 2", NO_MOMENTUM, refresh=2),
)


@dataclass(frozen=True)
class Plan:
    """What to run. peer: also the authors' implementation (of SD 1.5 only)."""

    shape: models.Shape
    peer: bool = True
    counts: tuple[int, ...] = (1, 2, 4, 8)
    steps: int = 8
    rounds: int = 7
    warm_up: int = 0


@dataclass
class Pair:
    """The same run in two ways; the plain one has no setting."""

    concepts: int
    setting: Setting | None
    ours: Way
    theirs: Way | None


def plans(quick: bool) -> list[Plan]:
    if quick:
        tiny = {"counts": (1, 2), "steps": 5, "rounds": 1}
        return [
            Plan(models.Shape("tiny", models.SD15, 32, 8), **tiny),
            Plan(models.Shape("tiny Flux", models.TINY_FLUX, 48, 8), peer=False, **tiny),
        ]
    if torch.cuda.is_available():
        return [
            Plan(models.Shape("SD 1.5", models.SD15, 320, 64), steps=20, rounds=9, warm_up=1),
            Plan(models.Shape("SDXL", models.SDXL, 320, 128), peer=False, steps=20, warm_up=1),
            Plan(models.Shape("Flux", models.FLUX, 3072, 128), peer=False, counts=(1, 2), steps=10, warm_up=1),
        ]
    return [Plan(models.Shape("SD 1.5 at 64 channels", models.SD15, 64, 16))]


def pairs(plan: Plan) -> list[Pair]:
    """The plain run, and every setting at every number of concepts."""
    shape, steps = plan.shape, plan.steps
    model = models.load(shape)
    network = model.model.diffusion_model
    internal = model.get_model_object("latent_format").process_in  # the authors' side stays in the model's own space
    positive, negative = (models.conditioning(shape, seed) for seed in (1, 2))
    concepts = [models.conditioning(shape, 10 + i) for i in range(max(plan.counts))]
    scheduler = "simple" if shape.is_flux else "ddim_uniform"
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
    latents = models.noise(shape, 1)
    noise = latents if shape.is_flux else peers.start_noise(latents, float(sigmas[0]))
    reference = None
    if plan.peer:
        unet = peers.reference_unet(model, comfy.model_management.get_torch_device())
        reference = peers.SEGA(unet, positive, negative)
    warm, percent = round(steps * WARM_UP), peers.percent_before_step

    def pair(count: int, setting: Setting | None) -> Pair:
        steered, options = model, {}
        if setting is not None:
            end = round(steps * setting.end)
            start_percent, end_percent = percent(warm, steps), percent(end, steps)
            steered = steer(
                model, concepts[:count], setting.momentum, start_percent, end_percent, refresh=setting.refresh
            )
            options = {
                "edit_guidance_scale": SCALE, "edit_threshold": THRESHOLD, "edit_warmup_steps": warm,
                "edit_cooldown_steps": [end if end < steps else peers.NEVER] * count,
                "edit_momentum_scale": setting.momentum[0], "edit_mom_beta": setting.momentum[1],
                "reverse_editing_direction": False,
            }  # fmt: skip
        ours = Way(lambda: internal(sample(steered, positive, negative, noise, sigmas, shape.cfg)), network)
        if reference is None:
            return Pair(count, setting, ours, None)
        theirs = Way(partial(reference, latents, steps, shape.cfg, concepts[:count], **options), reference.unet)
        return Pair(count, setting, ours, theirs)

    return [pair(0, None), *(pair(count, setting) for count in plan.counts for setting in SETTINGS)]


def run(plan: Plan) -> list[dict[str, Any]]:
    """Rows of one plan: medians over the rounds."""
    found = pairs(plan)
    ways = [way for pair in found for way in (pair.ours, pair.theirs) if way is not None]
    measure(ways, plan.rounds, plan.warm_up, plan.shape.name)
    plain = found[0].ours
    return [
        {
            "model": plan.shape.name,
            "concepts": pair.concepts,
            "setting": pair.setting.name if pair.setting else "no concepts",
            "rounds": plan.rounds,
            "steps": plan.steps,
            "entries": pair.ours.entries,
            "ours_s": median(pair.ours.seconds),
            "of_plain": ratio(pair.ours.seconds, plain.seconds),
            **against(pair.ours, pair.theirs),
        }
        for pair in found
    ]


def against(ours: Way, theirs: Way | None) -> dict[str, Any]:
    """Our run beside theirs."""
    if theirs is None:
        return dict.fromkeys(("their_entries", "theirs_s", "of_theirs", "by_entries", "difference"))
    return {
        "their_entries": theirs.entries,
        "theirs_s": median(theirs.seconds),
        "of_theirs": ratio(ours.seconds, theirs.seconds),
        "by_entries": ours.entries / theirs.entries,
        "difference": difference(ours.result, theirs.result),
    }


def rows(quick: bool) -> list[dict[str, Any]]:
    """Everything, in the order of the table. quick: tiny models once, to see that it runs."""
    with torch.inference_mode():
        return [row for plan in plans(quick) for row in run(plan)]


def table(found: list[dict[str, Any]]) -> str:
    """Markdown; docs/performance.md says what the columns are."""
    titles = [
        "model", "concepts", "setting", "ours, s", "theirs, s", "ours / theirs", "by entries", "entries, ours",
        "theirs", "of a run without concepts", "difference", "rounds",
    ]  # fmt: skip
    lines = [
        [
            row["model"], str(row["concepts"]), row["setting"], number(row["ours_s"]), number(row["theirs_s"]),
            number(row["of_theirs"]), number(row["by_entries"]), str(row["entries"]), str(row["their_entries"] or ""),
            number(row["of_plain"], 2), small(row["difference"]), str(row["rounds"]),
        ]
        for row in found
    ]  # fmt: skip
    return markdown(titles, lines)
