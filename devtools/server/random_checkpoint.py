"""A checkpoint of the demo's shape with random weights: quick to run, and no training is needed for it."""

from __future__ import annotations

from pathlib import Path

from ..host import prepare_comfyui


def write(file: Path) -> Path:
    """Write it. Not the training's first weights: those start every branch at zero."""
    prepare_comfyui(cpu=True)
    import torch
    from comfy.taesd.taesd import TAESD
    from safetensors.torch import save_file

    from demo.training.model import new_unet
    from demo.training.text import new_encoder
    from demo.training.vae import initialise

    torch.manual_seed(0)
    unet, text, vae = new_unet(), new_encoder().transformer, TAESD()
    initialise(vae)
    for parameter in unet.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.03)
    parts = {"model.diffusion_model.": unet, "cond_stage_model.transformer.": text, "first_stage_model.": vae}
    tensors = {
        prefix + name: value.detach().half().contiguous()
        for prefix, module in parts.items()
        for name, value in module.state_dict().items()
    }
    save_file(tensors, file)
    return file
