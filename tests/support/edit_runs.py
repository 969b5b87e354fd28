"""For tests of inversion and DiffEdit: a cheap model that is not linear, and the nodes called as a workflow does."""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import comfy.samplers
import tiny_models
import torch
from comfy.model_base import ModelType
from comfy_extras.nodes_custom_sampler import SamplerCustomAdvanced
from semantic_steering.nodes.diffedit import DiffEditMask, DiffEditSampler
from semantic_steering.nodes.inversion import DDIMInvert

TYPES = [ModelType.EPS, ModelType.V_PREDICTION, ModelType.FLOW, ModelType.EDM]
VIDEO = (4, 3, 6, 6)
Inverted = namedtuple("Inverted", "inversion noise sigmas latent start")


class Mixer(torch.nn.Module):
    """skip·x + strength·tanh(shifted copies of x + the conditioning's field): neighbours matter, and so does the text.

    With skip 1 an eps model is close to the best one for data of unit variance, whose ε is nearly its input at high σ.
    """

    dtype = torch.float32

    def __init__(self, size: tuple[int, ...], skip: float, strength: float):
        super().__init__()
        self.size, self.skip, self.strength = size, skip, strength

    def forward(self, x, timesteps, context=None, control=None, transformer_options=None, **kwargs):
        field = context[:, 0].reshape(-1, *self.size)
        wave = 1 + 0.3 * torch.sin(timesteps / 200).reshape(-1, *[1] * (x.ndim - 1))
        mixed = torch.tanh(1.2 * x.roll(1, -1) - 0.7 * x.roll(1, 1) + wave * field)
        return self.skip * x + self.strength * mixed


def mixer_model(
    model_type: ModelType = ModelType.EPS,
    size: tuple[int, ...] = tiny_models.SIZE,
    layout: Any = None,
    strength: float = 0.4,
) -> Any:
    """A MODEL around a Mixer. layout: another latent format than the plain one."""
    patcher = tiny_models.stub_model(model_type, size)
    patcher.model.diffusion_model = Mixer(size, 1.0 if model_type is ModelType.EPS else 0.0, strength)
    if layout is not None:
        patcher.model.latent_format = layout
    return patcher


def calm_unet(model_type: ModelType, seed: int = 0) -> Any:
    """tiny.unet_model, of which an eps model gets its input added to a fifth of it.

    The unit-variance random eps network alone is chaotic: its slope turns within one step of a 25-step schedule up to
    σ = 14.6, where a trained ε is nearly the input. Scaling it down does not help: what reaches its norms shrinks too.
    """
    patcher = tiny_models.unet_model(model_type, seed)
    if model_type is ModelType.EPS:
        network = patcher.model.diffusion_model
        forward = network.forward
        network.forward = lambda x, *args, **kwargs: x + 0.2 * forward(x, *args, **kwargs)
    return patcher


def invert(model: Any, positive: list, samples: torch.Tensor, **options: Any) -> Inverted:
    return Inverted(*DDIMInvert.execute(model, positive, {"samples": samples}, **options).args)


def decode(model: Any, positive: list, found: Inverted, samples: torch.Tensor, negative: Any = None, cfg: float = 1.0):
    """The stock euler sampler on the `noise` and `sigmas` outputs."""
    guider = tiny_models.cfg_guider(model, positive, negative, cfg)
    sampler = comfy.samplers.sampler_object("euler")
    (latent, _) = SamplerCustomAdvanced.execute(found.noise, guider, sampler, found.sigmas, {"samples": samples}).args
    return latent["samples"]


def find_mask(model: Any, source: list, target: list, samples: torch.Tensor, **options: Any):
    """(mask, heatmap)"""
    return DiffEditMask.execute(model, source, target, {"samples": samples}, **options).args


def edit(model: Any, positive: list, negative: list, inversion: Any, mask: torch.Tensor, cfg: float = 7.5):
    (latent,) = DiffEditSampler.execute(model, positive, negative, inversion, mask, cfg).args
    return latent["samples"]


def psnr(found: torch.Tensor, expected: torch.Tensor) -> float:
    """dB of the worst picture, against that picture's own range of values."""
    worst = math.inf
    for a, b in zip(found.double(), expected.double(), strict=True):
        error = float((a - b).pow(2).mean())
        worst = min(worst, 10 * math.log10(float(b.max() - b.min()) ** 2 / error) if error else math.inf)
    return worst
