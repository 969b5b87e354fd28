"""The DiffEdit port of diffusers, StableDiffusionDiffEditPipeline, on the same random UNet as ComfyUI.

What it is at fault for is left out by how it is called: it takes the prompt for the negative and the negative for the
prompt (guidance then only changes its sign, and the mask does not, as long as both texts share one negative), and its
mean runs over the batch (one picture at a time).
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import oracle
import torch


class DiffEditReference:
    """The pipeline without VAE and text encoder: latents and embeddings go in directly."""

    def __init__(self, model: Any):
        self.inverse = oracle.ddim_scheduler("DDIMInverseScheduler")
        self.pipe = oracle.bare_pipeline("StableDiffusionDiffEditPipeline", model, inverse_scheduler=self.inverse)
        self.scheduler = self.pipe.scheduler
        self.pipe.vae = SimpleNamespace(dtype=torch.float32, config=SimpleNamespace(scaling_factor=1.0))
        self.pipe.image_processor = SimpleNamespace(preprocess=lambda image: image)

    def invert(self, latents: torch.Tensor, positive: list, steps: int, strength: float) -> list[torch.Tensor]:
        """The states that `invert` stores, by increasing noise, as diffusers has them: x_vp = x/√(1 + σ²)."""
        found = self.pipe.invert(
            image=latents, prompt_embeds=oracle.tokens_of(positive).repeat(len(latents), 1, 1),
            num_inference_steps=steps, inpaint_strength=strength, guidance_scale=1.0, output_type="latent",
        )  # fmt: skip
        states = found.latents  # [B, n, C, h, w], noisiest first
        return [states[:, i] for i in reversed(range(states.shape[1]))]

    def inverse_timesteps(self, steps: int, strength: float) -> list[int]:
        self.inverse.set_timesteps(steps)
        found, _ = self.pipe.get_inverse_timesteps(steps, strength, "cpu")
        return [int(t) for t in found]

    def mask_timestep(self, steps: int, strength: float) -> int:
        self.scheduler.set_timesteps(steps)
        found, _ = self.pipe.get_timesteps(steps, strength, "cpu")
        return int(found[0])

    def generate_mask(
        self, latents: torch.Tensor, source: list, target: list, negative: list, noises: torch.Tensor, cfg: float,
        ratio: float, steps: int, strength: float, monkeypatch: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """(mask [1, h, w], map before clamping [1, h, w]) with the given noises [n, C, h, w]."""
        module = importlib.import_module(type(self.pipe).__module__)
        seen: list[torch.Tensor] = []
        monkeypatch.setattr(module, "randn_tensor", lambda shape, **kwargs: noises.reshape(shape))
        clamp = torch.Tensor.clamp

        def note(tensor, *args, **kwargs):
            seen.append(tensor.clone())
            return clamp(tensor, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "clamp", note)
            tokens = oracle.tokens_of
            mask = self.pipe.generate_mask(
                image=latents, source_prompt_embeds=tokens(source), target_prompt_embeds=tokens(target),
                source_negative_prompt_embeds=tokens(negative), target_negative_prompt_embeds=tokens(negative),
                num_maps_per_mask=len(noises), mask_encode_strength=strength, mask_thresholding_ratio=ratio,
                num_inference_steps=steps, guidance_scale=cfg, output_type="np",
            )  # fmt: skip
        maps = [tensor for tensor in seen if tensor.shape == (1, *latents.shape[-2:])]
        return torch.from_numpy(mask).float(), maps[-1]
