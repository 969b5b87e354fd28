"""What the slider does so far: one seed at several strengths, as the strip that grows while it trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..page.previews import latent_colours, one_frame
from ..page.strips import strip
from ..page.sweeps import captions
from ..run.levels import shares
from .walks import noises, walk

STEPS = 8  # of a picture


@dataclass(frozen=True)
class Dial:
    """strengths: of the strip's pictures, 0 among them; begin: of the steps, how many are over when the slider
    joins; carrying: the MODEL with a LORA_MODEL at a strength for each picture, and what it is asked by then, {"model",
    "positive", "negative"} or those of them that change."""

    strengths: tuple[float, ...]
    begin: int
    carrying: Callable[[dict[str, Tensor], tuple[float, ...]], dict[str, Any]]


class Seen:
    """The run up to where the slider joins is made once, and so is the picture without it. vae: for real pictures,
    None for the latent format's approximate colours. Raises ValueError for a cfg that is no number."""

    def __init__(self, model: Any, positive: Any, negative: Any, cfg: float, empty: Tensor, seed: int, vae: Any,
                 dial: Dial):  # fmt: skip
        if not math.isfinite(cfg):
            raise ValueError(f"cfg is {cfg}; it must be a number (1 for models that are used without)")
        self.model, self.cfg, self.empty, self.seed, self.vae, self.dial = model, cfg, empty, seed, vae, dial
        self.positive, self.negative = positive, negative
        sampling = model.get_model_object("model_sampling")
        shown = [float(sampling.percent_to_sigma(step / STEPS)) for step in range(STEPS)]
        self.sigmas = torch.tensor([*(min(sigma, float(sampling.sigma_max)) for sigma in shown), 0.0])
        self._share = shares(sampling, float(self.sigmas[dial.begin]))[1]
        self._begin: Tensor | None = None  # the state there
        self._plain: Tensor | None = None

    def latents(self, tensors: dict[str, Tensor]) -> Tensor:
        """LATENT samples, one a strength, with a slider as LORA_MODEL."""
        if self._plain is None or self._begin is None:
            self._plain, self._begin = self._without()
        middle = self.dial.strengths.index(0)
        others = (*self.dial.strengths[:middle], *self.dial.strengths[middle + 1 :])
        # A state is the host's noise at its level, over no picture.
        noise = (self._begin / self._share).repeat(len(others), *[1] * (self._begin.ndim - 1))
        made = self._run(noise, self.sigmas[self.dial.begin :], **self.dial.carrying(tensors, others))
        return torch.cat([made[:middle], self._plain, made[middle:]])

    def _without(self) -> tuple[Tensor, Tensor]:
        """The picture without a slider, and the state where one joins."""
        states: list[Tensor] = []

        def keep(step: int, _: Tensor, state: Tensor, __: int) -> None:
            if step == self.dial.begin:
                states.append(state.detach().float().cpu().clone())

        return self._run(noises(self.empty, [self.seed]), self.sigmas, keep), states[0]

    def _run(self, noise: Tensor, sigmas: Tensor, callback: Any = None, **carrying: Any) -> Tensor:
        asked = {"model": self.model, "positive": self.positive, "negative": self.negative, **carrying}
        return walk(**asked, cfg=self.cfg, noise=noise, sigmas=sigmas, seed=self.seed, callback=callback).cpu()

    def response(self, latents: Tensor) -> float:
        """How far the strip's outer pictures are from the one without the slider, as a share of that one's size."""
        plain = latents[self.dial.strengths.index(0)].float()
        strongest = max(abs(strength) for strength in self.dial.strengths)
        outer = latents[[abs(strength) == strongest for strength in self.dial.strengths]].float()
        return float((outer - plain).flatten(1).norm(dim=1).mean() / plain.norm().clamp_min(1e-12))

    def strip(self, latents: Tensor) -> Tensor:
        """IMAGE [1, H, W, 3], captions above."""
        if self.vae is None:
            layout = self.model.get_model_object("latent_format")
            pictures = latent_colours(layout, layout.process_in(one_frame(latents).float()))
        else:
            found = self.vae.decode(latents)
            pictures = found[:, found.shape[1] // 2] if found.ndim == 5 else found
        return strip(pictures.cpu().float(), captions(self.dial.strengths).splitlines())
