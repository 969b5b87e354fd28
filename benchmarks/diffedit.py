"""DiffEdit against diffusers' port: the mask alone, and the whole edit, with the same weights and noises.

Both sides start from the latent of the picture: no VAE, no text encoder, no preview. Both inversions take the papers'
plain step without guidance.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import comfy.model_management
import torch
from semantic_steering.guidance_core import binarise, heatmap  # pyright: ignore[reportMissingImports]
from semantic_steering.nodes.diffedit import DiffEditSampler  # pyright: ignore[reportMissingImports]
from semantic_steering.nodes.host.conditioning.masks import to_pictures  # pyright: ignore[reportMissingImports]
from semantic_steering.nodes.host.editing.diffedit import estimate_difference  # pyright: ignore[reportMissingImports]
from semantic_steering.nodes.host.run.ksampler import picture_size  # pyright: ignore[reportMissingImports]
from semantic_steering.nodes.inversion import DDIMInvert  # pyright: ignore[reportMissingImports]
from torch import Tensor

from . import models, peers
from .rounds import Way, difference, measure, ratio
from .tables import markdown, number, small

CFG, MAPS, THRESHOLD, SEED = 7.5, 10, 0.5, 0
RATIO = 2.0  # clamp at this many times the mean; 3, both sides' default, leaves no cell of a random network's map
MASK_STRENGTH, INPAINT_STRENGTH = 0.5, 0.8  # the defaults of both sides
MASK_STEPS = 50  # of diffusers' schedule, which only decides the mask's noise level


@dataclass(frozen=True)
class Plan:
    """What to run. steps: of the whole schedule, of which 0.8 are inverted and decoded."""

    shape: models.Shape
    steps: int = 15
    rounds: int = 7
    warm_up: int = 0


def plans(quick: bool) -> list[Plan]:
    if quick:
        return [Plan(models.Shape("tiny", models.SD15, 32, 8), steps=5, rounds=1)]
    if torch.cuda.is_available():
        return [Plan(models.Shape("SD 1.5", models.SD15, 320, 64), steps=25, rounds=9, warm_up=1)]
    return [Plan(models.Shape("SD 1.5 at 96 channels", models.SD15, 96, 16))]


@dataclass
class Job:
    """The same picture, texts and model on both sides."""

    model: Any
    reference: peers.DiffEdit
    picture: Tensor  # in the model's own space
    samples: Tensor  # the same as a LATENT
    source: list
    target: list
    negative: list
    steps: int

    def level(self, timestep: int) -> float:
        return float(self.model.get_model_object("model_sampling").sigmas[timestep])

    def our_mask(self) -> Tensor:
        """DiffEdit Mask without its preview, before it grows and blurs the mask: [1, h, w]."""
        timestep = self.reference.mask_timestep(MASK_STEPS, MASK_STRENGTH)
        strength = timestep / (peers.TRAINED_STEPS - 1)  # the host's share for that very level
        found = estimate_difference(self.model, self.source, self.target, self.samples, strength, MAPS, SEED)
        return binarise(heatmap(found, RATIO), THRESHOLD)

    def their_mask(self) -> Tensor:
        generator = torch.Generator().manual_seed(SEED)
        noises = torch.cat([torch.randn(self.picture.shape, generator=generator) for _ in range(MAPS)])
        return self.reference.generate_mask(
            self.picture, self.source, self.target, self.negative, noises, CFG, RATIO, MASK_STEPS, MASK_STRENGTH
        )

    def our_edit(self) -> Tensor:
        """Mask, DDIM Invert and DiffEdit Sampler. The noisiest state of the inversion."""
        timesteps = self.reference.inverse_timesteps(self.steps, INPAINT_STRENGTH)
        sigmas = torch.tensor([*(self.level(t) for t in reversed(timesteps)), 0.0])
        mask = to_pictures(self.our_mask(), picture_size(self.model, self.samples.shape), 1)
        (inversion, *_) = DDIMInvert.execute(
            self.model, self.source, {"samples": self.samples}, method="ddim", sigmas=sigmas
        ).args
        DiffEditSampler.execute(self.model, self.target, self.negative, inversion, mask, CFG)
        return inversion.latents[-1] / (1 + sigmas[0] ** 2).sqrt()

    def their_edit(self) -> Tensor:
        mask = self.their_mask()
        states = self.reference.invert(self.picture, self.source, self.steps, INPAINT_STRENGTH)
        self.reference.decode(states, mask, self.target, self.negative, CFG, self.steps, INPAINT_STRENGTH)
        return states[:, 0]


def run(plan: Plan) -> list[dict[str, Any]]:
    """Rows of one plan: medians over the rounds."""
    model = models.load(plan.shape)
    reference = peers.DiffEdit(peers.reference_unet(model, comfy.model_management.get_torch_device()))
    picture = models.noise(plan.shape, 1)
    samples = model.get_model_object("latent_format").process_out(picture)
    source, target, negative = (models.conditioning(plan.shape, seed) for seed in (1, 2, 3))
    job = Job(model, reference, picture, samples, source, target, negative, plan.steps)
    network = model.model.diffusion_model
    found = [
        ("mask", Way(job.our_mask, network), Way(job.their_mask, reference.unet)),
        ("whole edit", Way(job.our_edit, network), Way(job.their_edit, reference.unet)),
    ]
    measure([way for _, *ways in found for way in ways], plan.rounds, plan.warm_up, plan.shape.name)
    return [
        {
            "model": plan.shape.name,
            "job": name,
            "rounds": plan.rounds,
            "steps": plan.steps,
            "ours_s": median(ours.seconds),
            "theirs_s": median(theirs.seconds),
            "speed_up": ratio(theirs.seconds, ours.seconds),
            "entries": ours.entries,
            "their_entries": theirs.entries,
            "by_entries": theirs.entries / ours.entries,
            "difference": difference(ours.result, theirs.result),
            "size_of_mask": float(ours.result.mean()) if name == "mask" else None,
        }
        for name, ours, theirs in found
    ]


def rows(quick: bool) -> list[dict[str, Any]]:
    """Everything, in the order of the table. quick: a tiny model once, to see that it runs."""
    with torch.inference_mode():
        return [row for plan in plans(quick) for row in run(plan)]


def table(found: list[dict[str, Any]]) -> str:
    """Markdown; docs/performance.md says what the columns are."""
    titles = [
        "model", "job", "ours, s", "theirs, s", "theirs / ours", "by entries", "entries, ours", "theirs", "difference",
        "rounds",
    ]  # fmt: skip
    lines = [
        [
            row["model"], row["job"], number(row["ours_s"]), number(row["theirs_s"]), number(row["speed_up"], 2),
            number(row["by_entries"], 2), str(row["entries"]), str(row["their_entries"]), small(row["difference"]),
            str(row["rounds"]),
        ]
        for row in found
    ]  # fmt: skip
    return markdown(titles, lines)
