"""Models of published shapes with random weights, as ComfyUI's loader makes them, and random LoRAs for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import comfy.memory_management
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch
from torch import Tensor

RANK = 4
POOLED = 1280  # of SDXL's second text encoder
COMMON = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "use_spatial_transformer": True, "legacy": False,
    "use_temporal_attention": False,
}  # fmt: skip
SD15 = {
    "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1,
    "context_dim": 768, "use_linear_in_transformer": False, "adm_in_channels": None,
}  # fmt: skip
SDXL = {
    "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10,
    "context_dim": 2048, "use_linear_in_transformer": True, "adm_in_channels": 2816, "num_classes": "sequential",
}  # fmt: skip
TINY = {
    "num_res_blocks": [1, 1], "channel_mult": [1, 2], "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1], "transformer_depth_middle": 1, "context_dim": 16,
    "use_linear_in_transformer": False, "adm_in_channels": None,
}  # fmt: skip
FLUX = {
    "image_model": "flux", "guidance_embed": True, "in_channels": 16, "out_channels": 16, "num_heads": 24, "depth": 19,
    "depth_single_blocks": 38, "axes_dim": [16, 56, 56], "vec_in_dim": 768, "context_in_dim": 4096, "txt_ids_dims": [],
    "mlp_ratio": 4.0, "theta": 10000, "patch_size": 2, "qkv_bias": True,
}  # fmt: skip
TINY_FLUX = {
    **FLUX, "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [8, 8, 8], "vec_in_dim": 8,
    "context_in_dim": 16,
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A model's layout (one of those above), its width (320 in the published UNets, 3072 in Flux), and its latent's
    side."""

    name: str
    layout: dict[str, Any]
    width: int
    side: int

    @property
    def is_flux(self) -> bool:
        return "image_model" in self.layout

    @property
    def channels(self) -> int:
        return self.layout.get("in_channels", COMMON["in_channels"])

    @property
    def cfg(self) -> float:
        """What the model is usually run at; Flux has its guidance inside."""
        return 1.0 if self.is_flux else 7.5

    def config(self, dtype: torch.dtype) -> Any:
        """ComfyUI's description of the model."""
        if self.is_flux:
            return comfy.supported_models.Flux({**self.layout, "hidden_size": self.width, "dtype": dtype})
        family = comfy.supported_models.SDXL if self.layout is SDXL else comfy.supported_models.SD15
        return family({**COMMON, **self.layout, "model_channels": self.width, "dtype": dtype})


def random_values(shape: tuple[int, ...], generator: torch.Generator, scale: float = 1.0) -> Tensor:
    """Weights that keep the size of what goes through them, where the generator is."""
    return scale * torch.randn(shape, generator=generator, device=generator.device) / math.sqrt(math.prod(shape[1:]))


def whole(config: Any, device: torch.device) -> Any:
    """ComfyUI's model with all its parameters: under dynamic memory management its layers have none before a file is
    loaded."""
    dynamic, comfy.memory_management.aimdo_enabled = comfy.memory_management.aimdo_enabled, False
    try:
        return config.get_model({}, device=device)
    finally:
        comfy.memory_management.aimdo_enabled = dynamic


def load(shape: Shape, disable_dynamic: bool = False) -> Any:
    """A MODEL with the same random weights each time; half precision where ComfyUI would choose it."""
    device = comfy.model_management.get_torch_device()
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16 if shape.is_flux else torch.float16
    config = shape.config(dtype)
    config.set_inference_dtype(dtype, None)
    model = whole(config, torch.device("cpu"))
    kind: Any = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = kind(model, load_device=device, offload_device=comfy.model_management.unet_offload_device())
    generator = torch.Generator(device).manual_seed(0)
    weights = {}
    for name, parameter in model.diffusion_model.named_parameters():
        if parameter.ndim > 1:
            values = random_values(tuple(parameter.shape), generator)
        else:
            values = 0.1 * torch.randn(parameter.shape, generator=generator, device=device)
            values = values + name.endswith(("weight", "scale"))
        if patcher.is_dynamic():
            weights[name] = values.to("cpu", parameter.dtype)
        else:  # at once: twice a whole model may not fit
            parameter.data.copy_(values)
    if weights:
        model.load_model_weights(weights, "", assign=True)
    patcher.cached_patcher_init = (load, (shape,))  # how the host makes a copy that its hooks can write to
    return patcher


def lora(model: Any, seed: int) -> dict[str, Tensor]:
    """A LoRA over all attention layers, as kohya's scripts save it, with the names of the model's own file."""
    generator = torch.Generator().manual_seed(1000 + seed)
    state: dict[str, Tensor] = {}
    for key, weight in model.model.diffusion_model.state_dict().items():
        if ".attn" in key and ".to_" in key and weight.ndim == 2:
            name = "lora_unet_" + key.removesuffix(".weight").replace(".", "_")
            down, up = (RANK, weight.shape[1]), (weight.shape[0], RANK)
            state[f"{name}.lora_down.weight"] = random_values(down, generator).to(weight.dtype)
            state[f"{name}.lora_up.weight"] = random_values(up, generator).to(weight.dtype)
            state[f"{name}.alpha"] = torch.tensor(float(RANK))
    return state


def conditioning(shape: Shape, seed: int) -> list:
    """A random CONDITIONING of 77 tokens, of 256 for Flux."""
    generator = torch.Generator().manual_seed(seed)
    if shape.is_flux:
        tokens = torch.randn(1, 256, shape.layout["context_in_dim"], generator=generator)
        return [[tokens, {"pooled_output": torch.randn(1, shape.layout["vec_in_dim"], generator=generator)}]]
    tokens = torch.randn(1, 77, shape.layout["context_dim"], generator=generator)
    return [[tokens, {"pooled_output": torch.randn(1, POOLED, generator=generator)}]]


def noise(shape: Shape, pictures: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(pictures, shape.channels, shape.side, shape.side, generator=generator)
