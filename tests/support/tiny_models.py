"""Small models and shortcuts for tests inside ComfyUI.

Two models. `stub_model`: its conditioning *is* its noise estimate, so every result has a closed form.
`unet_model`: ComfyUI's own UNetModel with random weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.supported_models_base
import torch
from comfy.model_base import ModelType
from comfy.patcher_extension import WrappersMP
from random_weights import randomise
from semantic_steering.guidance_core import Window
from semantic_steering.nodes.host.conditioning.concept import ConceptInput
from semantic_steering.nodes.host.sega.patch import patch_model
from semantic_steering.nodes.host.sega.settings import SEGASettings

SIZE = (4, 6, 6)  # the stub's latent [C, h, w]
WIDTH = math.prod(SIZE)  # of its conditioning
CPU = torch.device("cpu")
UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
    "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1, "context_dim": 16, "use_spatial_transformer": True, "legacy": False,
    "use_linear_in_transformer": False, "dtype": torch.float32,
}  # fmt: skip


class Config(comfy.supported_models_base.BASE):
    unet_extra_config = {"num_heads": 2, "num_head_channels": -1}  # noqa: RUF012 - ComfyUI's own way


class VideoFormat(comfy.latent_formats.LatentFormat):
    latent_dimensions = 3


class Stub(torch.nn.Module):
    """eps = (the conditioning + guidance + the mean of a reference latent + control) · (1 + growth·t)."""

    dtype = torch.float32

    def __init__(self, size: tuple[int, ...], growth: float):
        super().__init__()
        self.size, self.growth = size, growth

    def forward(self, x, timesteps, context=None, control=None, transformer_options=None, guidance=None, ref=None):
        eps = context[:, 0].reshape(-1, *self.size)
        eps = eps[(..., *(slice(n) for n in x.shape[2:]))]  # an area's crop; fields are constant where tests use one
        for extra in (guidance, ref):
            if extra is not None:
                eps = eps + extra.reshape(-1, *[1] * (x.ndim - 1))
        if control is not None:
            eps = eps + control["output"][0]
        return eps * (1 + self.growth * timesteps.reshape(-1, *[1] * (x.ndim - 1)))


class StubModel(comfy.model_base.BaseModel):
    def extra_conds(self, **kwargs):
        out = super().extra_conds(**kwargs)
        if kwargs.get("guidance") is not None:
            out["guidance"] = comfy.conds.CONDRegular(torch.tensor([float(kwargs["guidance"])]))
        if kwargs.get("reference_latents") is not None:
            out["ref"] = comfy.conds.CONDRegular(kwargs["reference_latents"][-1].mean().reshape(1))
        return out


def _patcher(model: torch.nn.Module) -> Any:
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


def stub_model(model_type: ModelType = ModelType.EPS, size: tuple[int, ...] = SIZE, growth: float = 0.0) -> Any:
    """A MODEL whose estimate is known. size: (C, h, w) or (C, T, h, w)."""
    config = Config({"disable_unet_model_creation": True, "dtype": torch.float32, "in_channels": size[0]})
    if len(size) == 4:
        config.latent_format = VideoFormat()
    model = StubModel(config, model_type=model_type, device=CPU)
    model.diffusion_model = Stub(size, growth)
    return _patcher(model)


def unet_model(model_type: ModelType = ModelType.EPS, seed: int = 0) -> Any:
    """A MODEL with ComfyUI's UNetModel and random weights; its outputs are of the size of noise."""
    config = Config(UNET)
    config.set_inference_dtype(torch.float32, None)
    model = comfy.model_base.BaseModel(config, model_type=model_type, device=CPU)
    randomise(model.diffusion_model, seed)
    return _patcher(model)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stub_cond(
    seed: int | None = None, value: float | None = None, size: tuple[int, ...] = SIZE, **options: Any
) -> list:
    """A conditioning of the stub: a random field, or a constant one."""
    eps = torch.full((1, 1, math.prod(size)), value) if seed is None else noise(1, 1, math.prod(size), seed=seed)
    return [[eps, dict(options)]]


def eps_of(conditioning: list, size: tuple[int, ...] = SIZE) -> torch.Tensor:
    """The stub's estimate under a conditioning, [1, *size]."""
    return conditioning[0][0].reshape(1, *size)


def unet_cond(seed: int, tokens: int = 4, **options: Any) -> list:
    return [[noise(1, tokens, 16, seed=1000 + seed), dict(options)]]


def concept(
    conditioning: list,
    scale: float | tuple[float, ...] = 5.0,
    threshold: float = 0.0,
    start: float = 0.0,
    end: float = 1.0,
    mask: Any = None,
) -> ConceptInput:
    """Defaults differ from the nodes': the whole run and all positions, which is what closed forms need."""
    return ConceptInput("test", conditioning, scale, threshold, Window(start, end), mask)


def steer(model: Any, *concepts: ConceptInput, momentum: float = 0.0, beta: float = 0.4, over: str = "channel",
          base: str = "auto", refresh: int = 1, started: Any = None) -> Any:  # fmt: skip
    return patch_model(model, concepts, SEGASettings(momentum, beta, over, base, refresh), started)


@dataclass
class Call:
    """One forward pass. conds: for each chunk of the batch, which conditioning it belongs to; extra: what else the
    network is given."""

    batch: int
    sigma: float
    conds: list[int]
    context: torch.Tensor
    control: Any
    extra: dict[str, Any]


@dataclass
class Calls:
    model: Any
    seen: list[Call] = field(default_factory=list)

    @property
    def batches(self) -> list[int]:
        return [call.batch for call in self.seen]


def recorded(model: Any) -> Calls:
    """A clone that notes every forward pass."""
    calls = Calls(model.clone())

    def note(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        conds = list((transformer_options or {}).get("cond_or_uncond", []))
        extra = kwargs if c_concat is None else {**kwargs, "c_concat": c_concat}
        calls.seen.append(Call(len(x), float(t[0]), conds, c_crossattn, control, extra))
        return executor(x, t, c_concat, c_crossattn, control, transformer_options or {}, **kwargs)

    calls.model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test.recorded", note)
    return calls


def cfg_guider(model: Any, positive: list, negative: list | None, cfg: float) -> Any:
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative) if negative is not None else guider.inner_set_conds({"positive": positive})
    guider.set_cfg(cfg)
    return guider


def schedule(model: Any, steps: int = 5, scheduler: str = "normal") -> torch.Tensor:
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)


def sample(guider: Any, start: torch.Tensor, sigmas: torch.Tensor, sampler: Any = "euler", callback: Any = None,
           seed: int = 3, latent: torch.Tensor | None = None) -> torch.Tensor:  # fmt: skip
    """One run of any guider. start: the noise."""
    sampler = comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler
    latent = torch.zeros_like(start) if latent is None else latent
    return guider.sample(start, latent, sampler, sigmas, None, callback, True, seed)


def sample_cfg(model: Any, positive: list, negative: list | None, cfg: float = 4.0, start: torch.Tensor | None = None,
               sigmas: torch.Tensor | None = None, **options: Any) -> torch.Tensor:  # fmt: skip
    start = noise(1, *SIZE) if start is None else start
    sigmas = schedule(model) if sigmas is None else sigmas
    return sample(cfg_guider(model, positive, negative, cfg), start, sigmas, **options)


def added_term(plain: torch.Tensor, edited: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """γ of a stub run in which it was the same at every Euler step down to 0: x_end = x_start − σ₀·(eps + γ)."""
    assert sigmas[-1] == 0
    return (plain - edited) / sigmas[0]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """‖found − expected‖ / ‖expected‖."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def out_of_memory_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose n-th call fails as on a full device."""
    count = itertools.count(1)

    def fail(*args: Any, **kwargs: Any) -> Any:
        if next(count) == call:
            raise torch.OutOfMemoryError("made up")
        return function(*args, **kwargs)

    return fail


def state_of(model: Any) -> tuple:
    """What a run could leave behind on a MODEL."""
    return (
        {kind: {key: list(found) for key, found in by_key.items()} for kind, by_key in model.wrappers.items()},
        {kind: {key: list(found) for key, found in by_key.items()} for kind, by_key in model.callbacks.items()},
        repr(model.model_options),
        sorted(model.patches),
        sorted(model.object_patches),
    )
