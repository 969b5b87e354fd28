"""The authors' implementation, diffusers' SemanticStableDiffusionPipeline, on the same random UNet as ComfyUI.

SEMANTIC_STEERING_ORACLE names the folder diffusers is installed in; it goes last on sys.path, so that the host keeps
its own packages.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import comfy.utils
import pytest
import tiny
import torch

TRAINED_STEPS = 1000


def diffusers() -> Any:
    folder = os.environ.get("SEMANTIC_STEERING_ORACLE")
    if folder and folder not in sys.path:
        sys.path.append(folder)
    return pytest.importorskip("diffusers", reason="SEMANTIC_STEERING_ORACLE must name diffusers' folder")


def reference_unet(model: Any) -> Any:
    """ComfyUI's UNet, weights and all, as diffusers' UNet2DConditionModel."""
    unet = diffusers().UNet2DConditionModel(
        sample_size=8, in_channels=model.model.diffusion_model.in_channels, out_channels=4,
        block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=2,
    )  # fmt: skip
    weights = model.model.diffusion_model.state_dict()
    names = comfy.utils.unet_to_diffusers(tiny.UNET)
    wanted = unet.state_dict()
    unet.load_state_dict({name: weights[names[name]].reshape(value.shape) for name, value in wanted.items()})
    assert {names[name] for name in wanted} == set(weights), "a weight of ComfyUI's UNet has no counterpart"
    return unet.eval()


def ddim_scheduler(kind: str = "DDIMScheduler") -> Any:
    """A DDIM scheduler with Stable Diffusion's noise levels."""
    return getattr(diffusers(), kind)(
        num_train_timesteps=TRAINED_STEPS, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        clip_sample=False, set_alpha_to_one=True, steps_offset=1, timestep_spacing="leading",
    )  # fmt: skip


def bare_pipeline(kind: str, model: Any, **modules: Any) -> Any:
    """A pipeline around the UNet, without VAE and text encoder; modules: those that only this kind has."""
    library = diffusers()
    pipeline = getattr(library, kind)
    pipe = pipeline.__new__(pipeline)
    library.DiffusionPipeline.__init__(pipe)
    pipe.register_modules(
        vae=None, text_encoder=None, tokenizer=None, unet=reference_unet(model), scheduler=ddim_scheduler(),
        safety_checker=None, feature_extractor=None, **modules,
    )  # fmt: skip
    pipe.vae_scale_factor = 8
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tokens_of(conditioning: list) -> torch.Tensor:
    return conditioning[0][0]


class Reference:
    """The pipeline with a text encoder that looks embeddings up instead of computing them."""

    def __init__(self, model: Any, positive: list, negative: list):
        table = {"positive": tokens_of(positive), "": tokens_of(negative)}

        def tokenizer(texts, **kwargs):
            texts = [texts] if isinstance(texts, str) else texts
            ids = torch.tensor([[list(table).index(text)] for text in texts])
            return SimpleNamespace(input_ids=ids)

        tokenizer.model_max_length = 77

        def text_encoder(ids):
            return (torch.cat([list(table.values())[int(i)] for i in ids[:, 0]]),)

        self.pipe = bare_pipeline("SemanticStableDiffusionPipeline", model)
        self.pipe.tokenizer, self.pipe.text_encoder = tokenizer, text_encoder
        self.pipe.image_processor = SimpleNamespace(postprocess=lambda image, **kwargs: image)

    @torch.no_grad()
    def __call__(self, latents: torch.Tensor, steps: int, cfg: float, concepts: list, **options: Any) -> torch.Tensor:
        result = self.pipe(
            "positive", height=8 * latents.shape[-2], width=8 * latents.shape[-1], num_inference_steps=steps,
            guidance_scale=cfg, latents=latents, output_type="latent",
            editing_prompt_embeddings=torch.cat([tokens_of(c) for c in concepts]) if concepts else None, **options,
        )  # fmt: skip
        return result.images


def start_noise(latents: torch.Tensor, sigma: float) -> torch.Tensor:
    """The noise that gives ComfyUI's euler the state that DDIM starts from: x_σ = x_vp·√(1 + σ²) = noise·σ."""
    return latents * (1 + sigma**2) ** 0.5 / sigma


def percent_before_step(step: int, steps: int) -> float:
    """A start_percent whose σ lies halfway between those of step − 1 and step on the leading DDIM schedule."""
    if step == 0:
        return 0.0
    if step >= steps:
        return 1.0
    spacing = TRAINED_STEPS // steps
    timestep = 1 + (steps - 1 - step) * spacing
    return 1 - (timestep + spacing / 2) / (TRAINED_STEPS - 1)
