"""The portraits checkpoint's model class for ComfyUI's own detection: UNetModel at small width, a small
CLIP-style text encoder, and a TAESD autoencoder."""

from __future__ import annotations

import comfy.latent_formats
import comfy.model_base
import comfy.sd1_clip
import comfy.supported_models_base
import torch

TEXT_CONFIG = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
    "vocab_size": 49408,
}
LATENT_RGB = "portraits.latent_rgb"  # checkpoint entry: rows 0-3 factors, row 4 bias of the preview colours


class PortraitsClip(comfy.sd1_clip.SDClipModel):
    """The text encoder, in the shape of SD1's with 32 features."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device, dtype=dtype, textmodel_json_config=dict(TEXT_CONFIG), model_options=model_options or {}
        )


class PortraitsClipModel(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None, **kwargs):
        super().__init__(
            device=device,
            dtype=dtype,
            model_options=model_options or {},
            clip_name="l",
            clip_model=PortraitsClip,  # pyright: ignore[reportArgumentType]
        )


class PortraitsLatent(comfy.latent_formats.LatentFormat):
    """Latents are stored normalised by the autoencoder itself."""

    scale_factor = 1.0


class Portraits(comfy.supported_models_base.BASE):
    """Matches the portraits checkpoint by its widths, which no public model has."""

    unet_config = {
        "context_dim": 32,
        "model_channels": 64,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
    }
    unet_extra_config = {"num_heads": 4, "num_head_channels": -1}
    latent_format = PortraitsLatent
    memory_usage_factor = 1.0
    supported_inference_dtypes = [torch.float32]

    def model_type(self, state_dict, prefix=""):
        return comfy.model_base.ModelType.V_PREDICTION

    def get_model(self, state_dict, prefix="", device=None):
        if LATENT_RGB in state_dict:
            table = state_dict[LATENT_RGB].float().tolist()
            self.latent_format.latent_rgb_factors, self.latent_format.latent_rgb_factors_bias = table[:-1], table[-1]
        return super().get_model(state_dict, prefix, device)

    def process_clip_state_dict(self, state_dict):
        state_dict = super().process_clip_state_dict(state_dict)
        return {f"clip_l.{key}": value for key, value in state_dict.items()}

    def clip_target(self, state_dict=None):
        return comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, PortraitsClipModel)
