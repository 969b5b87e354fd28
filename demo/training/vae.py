"""Trains the autoencoder (TAESD architecture) on crops of renders.

Loss: MSE + w·L1 of the reconstruction from slightly noised latents. Afterwards `vae_scale` and `vae_shift`
are set so that the latents the diffusion model sees have mean 0 and standard deviation 1.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import CONFIG
from .data import Renders, as_floats, renders
from .state import TrainingState, cosine_schedule

logger = logging.getLogger("semantic_steering.demo")


def initialise(module: nn.Module) -> None:
    """He initialisation; the last convolution of every residual branch starts small."""
    from comfy.taesd.taesd import Block

    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, Block):
            last: Any = part.conv[-1]
            last.weight.data.mul_(0.2)


def random_crops(data: Renders, batch: int, side: int) -> Tensor:
    """Random crops [batch, 3, side, side] in [0, 1], half of them mirrored."""
    rows = torch.randint(len(data.pictures), (batch,))
    corners = torch.randint(data.pictures.shape[-1] - side + 1, (batch, 2))
    crops = [
        data.pictures[row, :, top : top + side, left : left + side]
        for row, (top, left) in zip(rows.tolist(), corners.tolist(), strict=True)
    ]
    crops = as_floats(torch.stack(crops))
    mirrored = torch.rand(batch) < 0.5
    crops[mirrored] = crops[mirrored].flip(-1)
    return crops.contiguous(memory_format=torch.channels_last)


def psnr(vae: Any, data: Renders, chunk: int = 16) -> float:
    """Mean over pictures of the reconstruction's PSNR in dB."""
    values = []
    with torch.no_grad():
        for pictures in data.pictures.split(chunk):
            x = as_floats(pictures).contiguous(memory_format=torch.channels_last)
            y = vae.taesd_decoder(vae.taesd_encoder(x)).clamp(0, 1)
            values.append(-10 * torch.log10((x - y).square().mean((1, 2, 3))))
    return float(torch.cat(values).mean())


def train(folder: Path) -> nn.Module:
    """Train (or go on training) the VAE; returns it with its latents normalised."""
    from comfy.taesd.taesd import TAESD

    config = CONFIG.vae
    torch.manual_seed(config.seed)
    vae: Any = TAESD()
    initialise(vae)
    vae = vae.to(memory_format=torch.channels_last)
    encoder, decoder = vae.taesd_encoder, vae.taesd_decoder
    optimiser = torch.optim.AdamW(vae.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
    state = TrainingState(folder / "vae.pt", vae=vae, optimiser=optimiser)
    start = state.load()
    if start >= config.steps:
        return vae
    data, held_out = renders(folder, "train"), renders(folder, "held_out")
    for step in range(start, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * cosine_schedule(step, config.steps, config.warm_up)
        x = random_crops(data, config.batch, config.crop)
        latents = encoder(x)
        noisy = latents + config.latent_noise * latents.std().detach() * torch.randn_like(latents)
        error = decoder(noisy) - x
        loss = error.square().mean() + config.l1_weight * error.abs().mean()
        (loss + config.latent_penalty * latents.square().mean()).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        state.save_sometimes(step + 1)
        if step % 50 == 0:
            logger.info("vae step %d loss %.5f", step, loss.item())
        if step % 500 == 499:
            logger.info(
                "vae step %d held-out %.2f dB", step, psnr(vae, Renders(held_out.portraits, held_out.pictures[:64]))
            )
    latents = torch.cat([encode_raw(vae, as_floats(p)) for p in data.pictures[:512].split(32)])
    vae.vae_scale.data.fill_(float(latents.std()))
    vae.vae_shift.data.fill_(-float(latents.mean() / latents.std()))
    logger.info("vae held-out PSNR %.2f dB", psnr(vae, held_out))
    state.save(config.steps)
    return vae


@torch.no_grad()
def encode_raw(vae: Any, pictures: Tensor) -> Tensor:
    """Encoder output before normalisation, for pictures [N, 3, S, S] in [0, 1]."""
    return vae.taesd_encoder(pictures.contiguous(memory_format=torch.channels_last))
