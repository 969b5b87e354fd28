"""For tests of InstructPix2Pix: a VAE with random weights, pictures, and the node called as a workflow does."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import comfy.sd
import family_models
import tiny_models
import torch
from comfy.taesd.taesd import TAESD
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced
from semantic_steering.nodes.instruct_pix2pix import InstructPix2PixGuider

from demo.training.vae import initialise

POSITIVE, NEGATIVE, TARGET = (tiny_models.unet_cond(seed, tokens=8) for seed in (1, 2, 3))


def random_vae(latent_channels: int = 4) -> Any:
    """ComfyUI's VAE around a TAESD with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = TAESD(latent_channels=latent_channels)
        initialise(network)
    return comfy.sd.VAE(sd=network.state_dict())


def pictures(batch: int = 1, height: int = 64, width: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(seed))


class Editor:
    """The node with a model and a VAE, and the stock SamplerCustomAdvanced behind it."""

    def __init__(self):
        self.model, self.vae = family_models.instruct_pix2pix().model, random_vae()

    def image(self, pixels: torch.Tensor | None = None) -> torch.Tensor:
        """The latent of a picture, as the VAE gives it."""
        with torch.no_grad():
            return self.vae.encode(pictures() if pixels is None else pixels)

    def internal(self, samples: torch.Tensor) -> torch.Tensor:
        return self.model.model.process_latent_in(samples)

    def build(
        self, text_scale: float = 3.0, image_scale: float = 1.5, concepts: Any = None,
        pixels: torch.Tensor | None = None, model: Any = None, positive: Any = POSITIVE, negative: Any = NEGATIVE,
    ) -> tuple[Any, dict]:  # fmt: skip
        """(guider, latent)"""
        pixels = pictures() if pixels is None else pixels
        model = self.model if model is None else model
        arguments = (model, positive, negative, self.vae, pixels, text_scale, image_scale, concepts)
        return InstructPix2PixGuider.execute(*arguments).args

    def run(self, guider: Any, latent: dict, sigmas: torch.Tensor | None = None, seed: int = 3) -> torch.Tensor:
        sigmas = tiny_models.schedule(self.model, 4) if sigmas is None else sigmas
        sampler = comfy.samplers.sampler_object("euler")
        (out, _) = SamplerCustomAdvanced.execute(Noise_RandomNoise(seed), guider, sampler, sigmas, latent).args
        return out["samples"]

    def edit(self, *args: Any, **options: Any) -> torch.Tensor:
        return self.run(*self.build(*args, **options))
