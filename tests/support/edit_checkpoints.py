"""Small random checkpoints of ComfyUI's real classes, as its stock loaders find and recognise them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sd1_clip
import comfy.supported_models as supported
import torch
from comfy.taesd.taesd import TAESD
from random_weights import randomise
from safetensors.torch import save_file
from server_prompts import INSTRUCT_PIX2PIX, KONTEXT, VAE

from demo.host.portraits_model import TEXT_CONFIG
from demo.training.vae import initialise

# Stable Diffusion 1.5's widths, which is what the host recognises it by, in one resolution with one block.
SD15 = {
    "image_size": 32, "in_channels": 8, "out_channels": 4, "model_channels": 320, "num_res_blocks": [1],
    "channel_mult": [1], "transformer_depth": [1], "transformer_depth_output": [1, 1], "transformer_depth_middle": -1,
    "context_dim": 768, "use_spatial_transformer": True, "legacy": False, "use_linear_in_transformer": False,
}  # fmt: skip
# One head of Flux, the text and pooled widths of the portraits' text encoder.
FLUX = {
    "image_model": "flux", "guidance_embed": True, "in_channels": 16, "out_channels": 16, "hidden_size": 128,
    "num_heads": 1, "depth": 1, "depth_single_blocks": 1, "axes_dim": [16, 56, 56],
    "vec_in_dim": TEXT_CONFIG["hidden_size"], "context_in_dim": TEXT_CONFIG["hidden_size"], "txt_ids_dims": [],
    "mlp_ratio": 4.0, "theta": 10000, "patch_size": 2, "qkv_bias": True,
}  # fmt: skip


def _state(network: torch.nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: value.detach().half().contiguous() for name, value in network.state_dict().items()}


def _diffusion_model(config: Any) -> Any:
    config.set_inference_dtype(torch.float32, None)
    network = config.get_model({}).diffusion_model
    randomise(network)
    return network


def _autoencoder(latent_channels: int) -> TAESD:
    torch.manual_seed(0)
    network = TAESD(latent_channels=latent_channels)
    initialise(network)
    return network


def write_checkpoint(file: Path, config: Any) -> None:
    """With Stable Diffusion 1.5's whole text encoder."""
    text = comfy.sd1_clip.SD1ClipModel(device="cpu", dtype=torch.float32).clip_l.transformer
    randomise(text)
    checkpoint = _state(_diffusion_model(config), "model.diffusion_model.")
    checkpoint |= _state(text, "cond_stage_model.transformer.") | _state(_autoencoder(4), "first_stage_model.")
    save_file(checkpoint, file)


def write_edit_models(models: Path) -> None:
    """Into the folders that the stock loaders look in."""
    for folder in ("diffusion_models", "vae"):
        (models / folder).mkdir(exist_ok=True)
    write_checkpoint(models / "checkpoints" / INSTRUCT_PIX2PIX, supported.SD15_instructpix2pix(SD15))
    save_file(_state(_diffusion_model(supported.Flux(FLUX))), models / "diffusion_models" / KONTEXT)
    save_file(_state(_autoencoder(16)), models / "vae" / VAE)
