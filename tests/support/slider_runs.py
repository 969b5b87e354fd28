"""For tests of sliders: the nodes called as a workflow does, and a run written out by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.samplers
import comfy.sd
import family_models
import lora_states as states
import tiny_models
import torch
from family_models import Family
from semantic_steering.nodes.sliders import SliderLoRALoader, SliderSweep

CFG = 3.0
CLOSE = 1e-4


def some(name: str) -> bool:
    """Attention and a convolution: enough to act, quick to load."""
    return states.ldm(name) and ("attn" in name or "input_blocks_2_0_in_layers_2" in name)


ONE, TWO = states.unet(1, some), states.unet(50, some)
FAMILY = family_models.sd()
START = FAMILY.noise(2)


def run(model: Any, start: torch.Tensor = START, **options: Any) -> torch.Tensor:
    """Six steps of the small UNet."""
    return FAMILY.sample(model, start, steps=6, **options)


def sigma(percent: float) -> float:
    return FAMILY.model.get_model_object("model_sampling").percent_to_sigma(percent)


def load(model: Any, state: dict, strength: float = 1.0, start: float = 0.0, end: float = 1.0, to: str = "both") -> Any:
    """The MODEL behind a Slider LoRA Loader."""
    return SliderLoRALoader.execute(model, "none", strength, start, end, to, None, state).args[0]


def sweep(model: Any, state: dict, strengths: str, start: float = 0.0, end: float = 1.0, channels: int = 4) -> Any:
    """The MODEL behind a Slider Sweep."""
    latent = {"samples": torch.zeros(1, channels, 8, 8)}
    return SliderSweep.execute(model, latent, "none", strengths, start, end, state).args[0]


def stock(model: Any, *sliders: tuple[dict, float]) -> Any:
    """The MODEL behind the host's own LoRA loaders."""
    for state, strength in sliders:
        model, _ = comfy.sd.load_lora_for_models(model, None, dict(state), strength, 0)
    return model


def merged(model: Any) -> dict[str, torch.Tensor]:
    """{a patched weight of a MODEL (or of a CLIP's patcher): what the host makes of it}."""
    # A clone that an earlier test has loaded leaves its own patches in the weights that all clones share.
    weights = model.model.state_dict() | {key: kept.weight for key, kept in model.backup.items()}
    return {
        key: comfy.lora.calculate_weight(patches, weights[key].clone(), key) for key, patches in model.patches.items()
    }


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    """Whether the same weights are patched, to the same bits."""
    return bool(found) and found.keys() == expected.keys() and all(torch.equal(found[k], expected[k]) for k in found)


class _Once(comfy.samplers.Sampler):
    """One evaluation of the guider."""

    def __init__(self, x: torch.Tensor, sigma: torch.Tensor):
        self.x, self.sigma = x, sigma

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        self.x0 = model_wrap(self.x, self.sigma.repeat(len(self.x)), **extra_args)
        return noise


def by_hand(family: Family, model_at: Callable[[float], Any], start: torch.Tensor, steps: int = 4, cfg: float = CFG):
    """Euler, each step with the MODEL that `model_at` gives for its σ."""
    model = family.model.model
    sigmas = tiny_models.schedule(family.model, steps)
    largest = bool(sigmas[0] > model.model_sampling.sigma_max * (1 - 1e-5))
    x = model.model_sampling.noise_scaling(sigmas[0], start, torch.zeros_like(start), largest)
    for sigma, following in itertools.pairwise(sigmas):
        once = _Once(x, sigma)
        guider = tiny_models.cfg_guider(model_at(float(sigma)), family.positive, family.negative, cfg)
        guider.sample(start, torch.zeros_like(start), once, sigmas, None, None, True, 0)
        x = x + (x - once.x0) / sigma * (following - sigma)
    return model.process_latent_out(model.model_sampling.inverse_noise_scaling(sigmas[-1], x))


def weight_changes(monkeypatch) -> list:
    """What the host is asked to load from now on."""
    loads, original = [], comfy.model_management.load_models_gpu

    def noted(models, *args, **kwargs):
        loads.append((models[0], kwargs))
        return original(models, *args, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", noted)
    return loads
