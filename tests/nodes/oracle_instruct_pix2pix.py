"""The authors' guidance as diffusers ports it, StableDiffusionInstructPix2PixPipeline, on the same random UNet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import oracle
import torch


class InstructPix2PixReference:
    """The pipeline without VAE and text encoder: latents and embeddings go in directly."""

    def __init__(self, model: Any):
        self.pipe = oracle.bare_pipeline("StableDiffusionInstructPix2PixPipeline", model, image_encoder=None)
        self.pipe.vae = SimpleNamespace(config=SimpleNamespace(latent_channels=4))
        self.pipe.image_processor = SimpleNamespace(
            preprocess=lambda image: image, postprocess=lambda image, **kwargs: image
        )

    @torch.no_grad()
    def __call__(
        self, latents: torch.Tensor, image: torch.Tensor, positive: list, negative: list, steps: int,
        text_scale: float, image_scale: float,
    ) -> torch.Tensor:  # fmt: skip
        """The end of a run from the given noise. image: the picture's latents, as the VAE gives them."""
        prompt, other = (oracle.tokens_of(found).repeat(len(latents), 1, 1) for found in (positive, negative))
        result = self.pipe(
            image=image, prompt_embeds=prompt, negative_prompt_embeds=other, num_inference_steps=steps,
            guidance_scale=text_scale, image_guidance_scale=image_scale, latents=latents, output_type="latent",
        )  # fmt: skip
        return result.images
