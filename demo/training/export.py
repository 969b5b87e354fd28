"""Writes the trained parts as one fp16 checkpoint that ComfyUI's stock loader reads."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..files import whole
from ..host.portraits_model import LATENT_RGB
from .data import as_floats, renders
from .vae import encode_raw

logger = logging.getLogger("semantic_steering.demo")
CHECKPOINT = Path(__file__).resolve().parents[1] / "models" / "portraits.safetensors"


def latent_colours(vae: Any, pictures: Tensor) -> Tensor:
    """Least-squares colours of latents for ComfyUI's previews: [5, 3] (4 factors and a bias), in [-1, 1]."""
    latents = encode_raw(vae, pictures) / vae.vae_scale + vae.vae_shift
    small = nn.functional.interpolate(pictures, size=latents.shape[-2:], mode="area") * 2 - 1
    x = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    x = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    return torch.linalg.lstsq(x, small.movedim(1, -1).reshape(-1, 3)).solution


def export(folder: Path, unet: nn.Module, text: nn.Module, vae: nn.Module, file: Path = CHECKPOINT) -> None:
    """Write the checkpoint: UNet, text encoder (SD1's key names) and VAE, and the preview colours."""
    with torch.no_grad():
        colours = latent_colours(vae, as_floats(renders(folder, "train").pictures[:128]))
    parts = {f"model.diffusion_model.{k}": v for k, v in unet.state_dict().items()}
    parts |= {f"cond_stage_model.transformer.{k}": v for k, v in text.state_dict().items()}
    parts |= {f"first_stage_model.{k}": v for k, v in vae.state_dict().items()}
    parts[LATENT_RGB] = colours
    tensors = {name: value.detach().half().contiguous() for name, value in parts.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole(file) as part:
        save_file(tensors, part, metadata={"format": "pt", "domain": "portraits", "version": "1"})
    logger.info("wrote %s, %.1f MB", file.name, file.stat().st_size / 1e6)
