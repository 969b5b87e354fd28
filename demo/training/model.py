"""Trains the diffusion model on the VAE's latents, with the text encoder.

v-prediction (v = α·ε − σ·x0 in the variance-preserving convention) on ComfyUI's own schedule, MSE on v.
"""

from __future__ import annotations

import copy
import logging
import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import CONFIG
from ..files import whole
from ..host.portraits_model import TEXT_CONFIG
from . import text, vae
from .data import as_floats, renders
from .state import TrainingState, cosine_schedule

logger = logging.getLogger("semantic_steering.demo")


def new_unet() -> nn.Module:
    """UNetModel at the demo's width with fresh weights (ComfyUI's layers skip their initialisation)."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    config = CONFIG.model
    repeats = config.res_blocks + 1
    unet: Any = UNetModel(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=config.channels,
        num_res_blocks=[config.res_blocks] * len(config.channel_mult),
        channel_mult=config.channel_mult,
        transformer_depth=[d for d in config.attention for _ in range(config.res_blocks)],  # pyright: ignore[reportArgumentType]
        transformer_depth_output=[d for d in config.attention for _ in range(repeats)],
        transformer_depth_middle=-1,
        context_dim=TEXT_CONFIG["hidden_size"],
        num_heads=config.heads,
        num_head_channels=-1,
        use_spatial_transformer=True,
        use_linear_in_transformer=False,
        legacy=False,
        operations=comfy.ops.disable_weight_init,
    )
    for module in unet.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for name, module in unet.named_modules():  # every residual branch starts at zero
        if name.endswith(("out_layers.3", "proj_out", "out.2")):
            nn.init.zeros_(module.weight)
    return unet.to(memory_format=torch.channels_last)


def alphas_cumprod() -> Tensor:
    """ᾱ of the 1,000 training timesteps, from the very object that will sample."""
    import comfy.model_sampling

    sigmas: Any = comfy.model_sampling.ModelSamplingDiscrete().sigmas
    return 1 / (1 + sigmas**2)


def encode_renders(folder: Path, autoencoder: Any) -> Tensor:
    """Normalised latents [N, 4, 16, 16] of the training pictures; every other chunk is mirrored."""
    file = folder / "latents.pt"
    if file.exists():
        return torch.load(file, weights_only=True)
    pictures = renders(folder, "train").pictures[: CONFIG.model.pictures]
    latents = []
    for i, chunk in enumerate(pictures.split(64)):
        chunk = chunk.flip(-1) if i % 2 else chunk
        latents.append(vae.encode_raw(autoencoder, as_floats(chunk)) / autoencoder.vae_scale + autoencoder.vae_shift)
        if i % 16 == 0:
            logger.info("encoded %d of %d", i * 64, len(pictures))
    result = torch.cat(latents).detach().contiguous()
    with whole(file) as part:
        torch.save(result, part)
    return result


class Average:
    """Exponential moving average of a module's parameters, warmed up so that early steps are forgotten."""

    def __init__(self, module: nn.Module, decay: float):
        self.module: Any = copy.deepcopy(module)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        averages: Any = list(self.module.parameters())
        torch._foreach_lerp_(averages, [p.detach() for p in module.parameters()], 1 - decay)  # pyright: ignore[reportPrivateImportUsage]


def train(folder: Path) -> tuple[nn.Module, nn.Module]:
    """Train (or go on training) the diffusion model; returns the averaged (unet, text encoder)."""
    config = CONFIG.model
    transformer = text.train(folder).transformer.requires_grad_(False)
    latents = encode_renders(folder, vae.train(folder))
    portraits = renders(folder, "train").portraits
    torch.manual_seed(config.seed)
    unet = new_unet()
    average = Average(unet, config.ema)
    optimiser = torch.optim.AdamW(
        unet.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    state = TrainingState(folder / "model.pt", unet=unet, average=average.module, optimiser=optimiser)
    start = state.load()
    tokens = text.Tokens()
    alpha_bar = alphas_cumprod()
    running = None
    for step in range(start, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * cosine_schedule(step, config.steps, config.warm_up)
        rows = torch.randint(len(latents), (config.batch,))
        captions = text.random_captions(portraits[rows], random.Random(10_000_000 + step), config.empty_captions)
        context = text.encode(transformer, tokens([c.text for c in captions]))
        x0 = latents[rows]
        # Stratified timesteps: one in each of `batch` equal bins.
        t = ((torch.arange(config.batch) + torch.rand(config.batch)) / config.batch * len(alpha_bar)).long()
        alpha, sigma = alpha_bar[t].sqrt().reshape(-1, 1, 1, 1), (1 - alpha_bar[t]).sqrt().reshape(-1, 1, 1, 1)
        noise = torch.randn_like(x0)
        noisy = (alpha * x0 + sigma * noise).contiguous(memory_format=torch.channels_last)
        loss = (unet(noisy, t.float(), context=context) - (alpha * noise - sigma * x0)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        average.update(unet, step)
        running = loss.item() if running is None else 0.99 * running + 0.01 * loss.item()
        state.save_sometimes(step + 1)
        if step % 100 == 0 or step + 1 == config.steps:
            logger.info("model step %d loss %.4f", step, running)
    state.save(config.steps)
    return average.module, transformer
