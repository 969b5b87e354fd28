"""DDIM inversion inside the host: a Sampler that walks the schedule upwards, and what it hands out."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ....guidance_core import LARGEST_RESIDUAL, Level, ddim_step, fixed_point_step
from ..conditioning.checks import check_encoded
from ..page.messages import joined, message
from ..page.progress import show_text, stop_if_cancelled
from ..run.identity import ModelIdentity
from ..run.latents import internal, picture_latent
from ..run.levels import input_scale, shares, with_noise
from ..run.samplers import guider_for, run_sampler

logger = logging.getLogger("semantic_steering")

VERSION = 1
METHODS = ("fixed point", "ddim", "random")


@dataclass(frozen=True)
class Inversion:
    """A picture's states from clean to noisy.

    sigmas ascending, from 0; latents: one state [B, C, ...] a level in the model's internal latent space, on the
    intermediate device; samples: the untouched LATENT samples; residuals: the largest relative one a step.
    """

    sigmas: Tensor
    latents: list[Tensor]
    samples: Tensor
    method: str
    model: ModelIdentity
    settings: dict[str, Any]
    residuals: list[float]
    evaluations: int
    version: int = VERSION


@dataclass
class InversionSampler(comfy.samplers.Sampler):
    """Walks the levels upwards from the picture. The states stay in `latents`; what the host makes of the return
    value (it takes it for a picture) is not used."""

    method: str
    iterations: int
    latents: list[Tensor] = field(default_factory=list)
    residuals: list[float] = field(default_factory=list)
    evaluations: int = 0

    @torch.no_grad()
    def sample(self, model_wrap: Any, sigmas: Tensor, extra_args: dict, callback: Any, noise: Tensor,  # type: ignore[override]
               latent_image: Any = None, denoise_mask: Any = None, disable_pbar: bool = False) -> Tensor:  # fmt: skip
        sampling = model_wrap.inner_model.model_sampling
        levels = [float(sigma) for sigma in sigmas.flip(0)]
        seen: dict[str, Tensor] = {}

        def denoise(x: Tensor, sigma: float) -> Tensor:
            stop_if_cancelled()
            self.evaluations += 1
            step = message("inverting", step=len(self.latents), total=total, evaluations=self.evaluations)
            show_text(step, passing=True)
            seen["x0"] = model_wrap(x, torch.full((len(x),), sigma, device=x.device), **extra_args)
            return seen["x0"]

        total = len(levels) - 1
        x, previous = latent_image, None
        self.latents.append(_stored(x))
        for i, (sigma, following) in enumerate(itertools.pairwise(levels)):
            if self.method == "random":
                stop_if_cancelled()
                x = seen["x0"] = with_noise(sampling, following, noise, latent_image)
            else:
                level = self._step(denoise, x, sigma, following, previous, sampling)
                x, previous = level.x, level.slope
                self._check(level, i, total, following)
            self.latents.append(_stored(x))
            if callback is not None:
                callback(i, seen["x0"], x, total)
        return x

    def _step(
        self, denoise: Callable[[Tensor, float], Tensor], x: Tensor, sigma: float, following: float,
        previous: Tensor | None, sampling: Any,
    ) -> Level:  # fmt: skip
        if self.method == "ddim":
            return ddim_step(
                denoise, x, sigma, following, input_scale(sampling, sigma) / input_scale(sampling, following)
            )
        return fixed_point_step(denoise, x, sigma, following, previous, self.iterations)

    def _check(self, level: Level, step: int, total: int, sigma: float) -> None:
        where = f"inversion step {step + 1} of {total} (σ {sigma:.4g})"
        if self.method == "fixed point":
            worst = float(level.residual.max())
            self.residuals.append(worst)
            if not worst <= LARGEST_RESIDUAL:
                picture = int(torch.nan_to_num(level.residual, nan=torch.inf).argmax()) + 1
                raise ValueError(
                    f"{where}: picture {picture} of {len(level.x)} has a relative residual of {worst:.2g} after "
                    f"{level.evaluations} iterations; at most {LARGEST_RESIDUAL:g} can be decoded again. Raise "
                    "iterations or steps, or lower cfg (1 inverts best)"
                )
        elif not torch.isfinite(level.x).all():
            raise ValueError(f"{where}: the model gave values that are no numbers; lower cfg, or use fixed point")


def _stored(x: Tensor) -> Tensor:
    return x.detach().to(comfy.model_management.intermediate_device(), copy=True)


@dataclass(frozen=True)
class InversionNoise:
    """A NOISE that makes any sampler start from the inversion's noisiest state, whatever latent it is given."""

    inversion: Inversion
    model: Any
    seed: int

    def generate_noise(self, input_latent: dict) -> Tensor:
        """(z − a·latent)/b, with the host's own a and b at the noisiest level.

        Raises ValueError for a latent of another size than the inverted one.
        """
        samples = input_latent["samples"]
        state = self.inversion.latents[-1].cpu()
        if samples.shape != state.shape:
            raise ValueError(
                f"the noise of this inversion belongs to a latent of shape {list(state.shape)}, the sampler's "
                f"latent_image has {list(samples.shape)}; connect the latent that was inverted"
            )
        a, b = shares(self.model.get_model_object("model_sampling"), float(self.inversion.sigmas[-1]))
        return (state - a * internal(self.model, samples)) / b


def invert(
    model: Any, positive: Any, negative: Any, latent: dict, sigmas: Tensor, cfg: float, method: str, iterations: int,
    seed: int,
) -> Inversion:  # fmt: skip
    """Invert a LATENT along `sigmas` (noisiest first, ending at 0)."""
    check_encoded(positive=positive, negative=negative)
    samples = picture_latent(model, latent, "latent_image", "inverted")
    if shares(model.get_model_object("model_sampling"), float(sigmas[0]))[1] == 0:
        raise ValueError(
            "model turns one picture into another without any noise, so there is no noise to find; connect a model "
            "that generates from noise"
        )
    noise: Any = torch.zeros_like(samples)
    if method == "random":
        noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    conds = {"positive": positive} | ({} if negative is None else {"negative": negative})
    sampler = InversionSampler(method, iterations)
    run_sampler(guider_for(model, conds, cfg), sampler, sigmas, samples, noise, seed)
    worst = max(sampler.residuals, default=0.0)
    said = [message("inverted", steps=len(sigmas) - 1, evaluations=sampler.evaluations)]
    if method == "fixed point":
        said.append(message("residual", residual=f"{worst:.1e}"))
    summary = joined("comma", said)
    logger.info("DDIM Invert (%s): %s", method, summary)
    show_text(summary)
    settings = {"cfg": cfg, "iterations": iterations, "seed": seed}
    return Inversion(
        sigmas.flip(0), sampler.latents, samples, method, ModelIdentity.of(model), settings, sampler.residuals,
        sampler.evaluations,
    )  # fmt: skip


def inverted_latent(model: Any, latent: dict, inversion: Inversion) -> dict:
    """The noisiest state as a LATENT for KSampler (Advanced) without added noise: z/a in the VAE's space.

    At σ = 1 of a flow model a is 0 and no latent can carry the state: a warning says so, and the state itself is given.
    """
    a, _ = shares(model.get_model_object("model_sampling"), float(inversion.sigmas[-1]))
    if abs(a) < 1e-6:
        logger.warning(
            "DDIM Invert: at σ = 1 this model's samplers ignore the latent they start from, so inverted_latent cannot "
            "carry the inversion; use the noise and sigmas outputs, or a denoise below 1"
        )
        a = 1.0
    state = model.get_model_object("latent_format").process_out(inversion.latents[-1].cpu().float() / a)
    # A noise mask would have the sampler put this noisy latent back outside of it.
    others = {key: value for key, value in latent.items() if key != "noise_mask"}
    return {**others, "samples": state.to(comfy.model_management.intermediate_device())}
