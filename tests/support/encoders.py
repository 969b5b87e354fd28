"""Text encoders of ComfyUI's own classes and tokenizers, small and of random weights."""

from __future__ import annotations

from typing import Any

import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.text_encoders.flux
import comfy.text_encoders.z_image
import torch
from comfy.supported_models_base import ClipTarget
from random_weights import randomise

SMALL = {
    "clip_l_model_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
                            "num_attention_heads": 2},
    "clip_g_model_config": {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3,
                            "num_attention_heads": 2},
    "qwen3_4b_model_config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
                              "num_attention_heads": 2, "num_key_value_heads": 1},
    "t5xxl_model_config": {"d_model": 20, "d_ff": 40, "d_kv": 10, "num_heads": 2, "num_layers": 2},
}  # fmt: skip
TARGETS = {
    "SD 1.5": lambda: ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
    "SDXL": lambda: ClipTarget(comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel),
    "Flux": lambda: ClipTarget(
        comfy.text_encoders.flux.FluxTokenizer, comfy.text_encoders.flux.flux_clip(dtype_t5=torch.float32)
    ),
    "Z-Image": lambda: ClipTarget(
        comfy.text_encoders.z_image.ZImageTokenizer, comfy.text_encoders.z_image.te(dtype_llama=torch.float32)
    ),
}


def clip(family: str, sizes: dict[str, dict[str, int]] = SMALL, seed: int = 0) -> Any:
    """As a loader node leaves it. family: of TARGETS."""
    made = comfy.sd.CLIP(TARGETS[family](), model_options={**sizes, "dtype": torch.float32})
    randomise(made.cond_stage_model, seed)
    return made
