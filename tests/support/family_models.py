"""Small models of ComfyUI's own classes with random weights: one for each way in which families differ.

FAMILIES are as small as the classes allow. ROWS, the rows of docs/compatibility.md, are checkpoints that the stock
loaders recognise: with as few layers, and as narrow, as detection accepts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.model_patcher
import comfy.sd
import comfy.supported_models as supported
import safetensors.torch
import tiny_models
import torch
from comfy.model_base import ModelType
from random_weights import random_weights, randomise

from benchmarks.models import COMMON, SD15, SDXL

FLUX = {
    "image_model": "flux", "guidance_embed": True, "in_channels": 16, "out_channels": 16, "hidden_size": 48,
    "num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [8, 8, 8], "vec_in_dim": 8,
    "context_in_dim": 16, "txt_ids_dims": [], "mlp_ratio": 4.0, "theta": 10000, "patch_size": 2, "qkv_bias": True,
}  # fmt: skip
SD3 = {
    "in_channels": 16, "patch_size": 2, "depth": 1, "pos_embed_max_size": 16, "adm_in_channels": 2048,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 16, "out_features": 64}},
    "num_patches": 256, "pos_embed_scaling_factor": None, "input_size": None, "mlp_ratio": 2.0,
}  # fmt: skip
WAN = {
    "image_model": "wan2.1", "model_type": "t2v", "dim": 48, "ffn_dim": 96, "freq_dim": 32, "text_dim": 16,
    "num_heads": 2, "num_layers": 1, "in_dim": 16, "out_dim": 16, "text_len": 8,
}  # fmt: skip
HUNYUAN_VIDEO = {
    "image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16, "patch_size": [1, 2, 2], "vec_in_dim": 8,
    "context_in_dim": 16, "hidden_size": 48, "mlp_ratio": 4.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1,
    "axes_dim": [8, 8, 8], "theta": 256, "qkv_bias": True, "guidance_embed": True, "byt5": False, "meanflow": False,
    "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
}  # fmt: skip
LUMINA = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 48, "n_layers": 1, "n_refiner_layers": 1,
    "n_heads": 2, "n_kv_heads": 2, "qk_norm": True, "cap_feat_dim": 16, "axes_dims": [8, 8, 8],
    "axes_lens": [32, 32, 32], "multiple_of": 16, "ffn_dim_multiplier": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A MODEL, conditionings, and the shape of its latent without the batch.

    cfg: as its users set it (1 for guidance-distilled models).
    """

    model: Any
    positive: list
    negative: list
    shape: tuple[int, ...]
    target: list = field(default_factory=list)
    cfg: float = 3.0

    def noise(self, batch: int = 1, seed: int = 1) -> torch.Tensor:
        return tiny_models.noise(batch, *self.shape, seed=seed)

    def sample(self, model: Any, start: torch.Tensor, steps: int = 4, cfg: float = 3.0, **options: Any) -> torch.Tensor:
        sigmas = tiny_models.schedule(model, steps)
        return tiny_models.sample_cfg(model, self.positive, self.negative, cfg, start, sigmas, **options)


# A random ε of unit size is chaotic under an inversion; a trained one is nearly its input.
CALM = 0.3


def _built(config: Any, state: dict[str, torch.Tensor], last: float = 1.0) -> Any:
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model(state)
    model.device = tiny_models.CPU
    randomise(model.diffusion_model, last=last)
    return comfy.model_patcher.ModelPatcher(model, tiny_models.CPU, tiny_models.CPU)


def _cond(seed: int, pooled: int = 0, tokens: int = 8, width: int = 16, **options: Any) -> list:
    if pooled:
        options["pooled_output"] = tiny_models.noise(1, pooled, seed=2000 + seed)
    words = tiny_models.noise(1, min(tokens, 8), width, seed=1000 + seed)
    return [[words.repeat(1, tokens // words.shape[1], 1), options]]  # more random words would average out


def _family(config: Any, shape: tuple[int, ...], pooled: int = 0, state: dict | None = None) -> Family:
    return Family(_built(config, state or {}), _cond(1, pooled), _cond(2, pooled), shape)


def sd() -> Family:
    return Family(tiny_models.unet_model(), tiny_models.unet_cond(1), tiny_models.unet_cond(2), (4, 8, 8))


TINY_SDXL = {
    **tiny_models.UNET,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "use_linear_in_transformer": True,
}
HEADS = {"num_heads": 2, "num_head_channels": -1}


def sdxl() -> Family:
    config = supported.SDXL(TINY_SDXL)
    config.unet_config.update(HEADS)
    return _family(config, (4, 8, 8), pooled=1280)


def sd3() -> Family:
    return _family(supported.SD3(SD3), (16, 8, 8), pooled=2048)


def flux() -> Family:
    return _family(supported.Flux(FLUX), (16, 8, 8), pooled=8)


def lumina() -> Family:
    return _family(supported.Lumina2(LUMINA), (16, 8, 8))


def z_image() -> Family:
    return _family(supported.ZImage({**Z_IMAGE, **LUMINA}), (16, 8, 8))


def wan() -> Family:
    return _family(supported.WAN21_T2V(WAN), (16, 3, 8, 8))


def qwen() -> Family:
    return _family(supported.QwenImage(QWEN), (16, 1, 8, 8))


def hunyuan_video() -> Family:
    """For its names of layers."""
    return _family(supported.HunyuanVideo(HUNYUAN_VIDEO), (16, 3, 8, 8), pooled=8)


def instruct_pix2pix() -> Family:
    """SD 1.5 with a picture's latent in four further input channels."""
    config = supported.SD15_instructpix2pix({**tiny_models.UNET, "in_channels": 8})
    config.unet_config.update(HEADS)
    return _family(config, (4, 8, 8))


def sdxl_instruct_pix2pix(cosxl: bool) -> Family:
    """The same of SDXL. cosxl: as CosXL Edit, of which the host scales the picture too."""
    config = supported.SDXL_instructpix2pix({**TINY_SDXL, "in_channels": 8})
    config.unet_config.update(HEADS)
    state = {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)}
    return _family(config, (4, 8, 8), pooled=1280, state=state if cosxl else {})


FAMILIES = {"sd": sd, "sdxl": sdxl, "sd3": sd3, "flux": flux, "lumina": lumina, "wan": wan}

UNET = {
    **COMMON, "model_channels": 320, "num_res_blocks": [1, 1], "channel_mult": [1, 1], "transformer_depth": [1, 0],
    "transformer_depth_output": [1, 1, 0, 0], "transformer_depth_middle": 1, "context_dim": 768,
    "use_linear_in_transformer": False, "adm_in_channels": None,
}  # fmt: skip
# Detection tells v-prediction by a bias in output block 11, so there have to be as many.
SD2_UNET = {
    **UNET, "num_res_blocks": [2] * 4, "channel_mult": [1] * 4, "transformer_depth": [1] + [0] * 7,
    "transformer_depth_output": [1] + [0] * 11, "context_dim": 1024, "use_linear_in_transformer": True,
}  # fmt: skip
SDXL_UNET = {
    **UNET, "num_res_blocks": [2] * 3, "channel_mult": [1] * 3, "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0] * 9, "context_dim": 2048, "use_linear_in_transformer": True,
    "num_classes": "sequential", "adm_in_channels": 2816,
}  # fmt: skip
REFINER_UNET = {
    **SDXL_UNET, "model_channels": 384, "num_res_blocks": [2] * 4, "channel_mult": [1] * 4, "context_dim": 1280,
    "transformer_depth": [0, 0, 4, 4, 4, 4, 0, 0], "transformer_depth_output": [0] * 12, "adm_in_channels": 2560,
}  # fmt: skip
SD3_DIT = {
    "in_channels": 16, "patch_size": 2, "depth": 2, "pos_embed_max_size": 16, "num_patches": 256, "input_size": None,
    "adm_in_channels": 2048, "pos_embed_scaling_factor": None,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 128}},
}  # fmt: skip
FLUX_DIT = {
    **FLUX, "hidden_size": 256, "axes_dim": [16, 56, 56], "vec_in_dim": 768, "context_in_dim": 4096,
}  # fmt: skip
FLUX2_DIT = {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "hidden_size": 256, "num_heads": 2, "depth": 1,
    "depth_single_blocks": 1, "axes_dim": [32] * 4, "vec_in_dim": None, "context_in_dim": 7680, "mlp_ratio": 3.0,
    "theta": 2000, "patch_size": 1, "qkv_bias": False, "global_modulation": True, "mlp_silu_act": True,
    "ops_bias": False, "guidance_embed": True, "txt_ids_dims": [3],
}  # fmt: skip
WAN_DIT = {
    **WAN, "dim": 256, "ffn_dim": 512, "freq_dim": 256, "text_dim": 4096, "text_len": 512,
}  # fmt: skip
WAN_I2V_DIT = {**WAN_DIT, "model_type": "i2v", "in_dim": 36}
QWEN = {
    "image_model": "qwen_image", "in_channels": 64, "num_layers": 1, "attention_head_dim": 32, "num_attention_heads": 2,
    "joint_attention_dim": 16, "axes_dims_rope": (8, 12, 12),
}  # fmt: skip
Z_IMAGE = {
    **LUMINA, "dim": 256, "axes_dims": [32, 48, 48], "z_image_modulation": True, "pad_tokens_multiple": 32,
    "time_scale": 1000.0,
}  # fmt: skip
FULL_SIZE = {"model_channels": 320, **COMMON}


@dataclass(frozen=True)
class Row:
    """A row of docs/compatibility.md: what ComfyUI shall take the checkpoint for, and how it is used."""

    name: str
    title: str
    kind: ModelType
    config: type
    layout: dict[str, Any]
    # Widths of the text features and of their pooled form, and how many tokens there are.
    text: int
    pooled: int = 0
    tokens: int = 8
    shape: tuple[int, ...] = (4, 8, 8)
    cfg: float = 3.0
    # "checkpoint", "diffusion model", or none where detection wants a network too large for a test: then `recognised`
    # is a layout that it does take for this family.
    loader: str = "checkpoint"
    recognised: dict[str, Any] = field(default_factory=dict)
    # What the file holds beside the network.
    extra: dict[str, torch.Tensor] = field(default_factory=dict)
    # What every prompt carries beside its text, and the names under which the network gets it.
    options: dict[str, Any] = field(default_factory=dict)
    context: tuple[str, ...] = ()
    # A file of half precision on disk instead of a state dict in memory.
    full_size: bool = False

    @property
    def made(self) -> str:
        """How the table says it."""
        if not self.loader:
            return f"the class itself, made small: `{self.config.__name__}`"
        size = "whole size, file and weights in fp16" if self.full_size else "cut down"
        return f"{size}; stock {self.loader} loader: `{self.config.__name__}`"

    @property
    def any_length(self) -> bool:
        """Whether the host brings texts of different lengths into one forward: UNets repeat them, Flux.2 pads them."""
        return self.loader == "checkpoint" or self.config is supported.Flux2

    def network(self, layout: dict[str, Any]) -> torch.nn.Module:
        """The network without weights."""
        config = self.config(dict(layout))
        config.set_inference_dtype(torch.float32, None)
        return config.get_model(self.extra, device="meta").diffusion_model

    def build(self, folder: Path) -> Family:
        """folder: where a file may be written."""
        return self.family(self._model(folder))

    def family(self, model: Any) -> Family:
        """A MODEL of this row's kind with this row's conditionings."""
        texts = [_cond(seed, self.pooled, self.tokens, self.text, **self.options) for seed in (1, 2, 3)]
        return Family(model, texts[0], texts[1], self.shape, texts[2], self.cfg)

    def text_only(self, conditioning: list) -> list:
        """A conditioning without `options`."""
        return [[text, {k: v for k, v in found.items() if k not in self.options}] for text, found in conditioning]

    def _model(self, folder: Path) -> Any:
        """The MODEL, of whatever class the host takes the weights for."""
        if not self.loader:
            return _built(self.config(dict(self.layout)), {}, CALM)
        prefix = "model.diffusion_model." if self.loader == "checkpoint" else ""
        dtype = torch.float16 if self.full_size else torch.float32
        weights = random_weights(self.network(self.layout), dtype, CALM)
        state = {prefix + name: value for name, value in weights.items()} | self.extra
        if self.full_size:
            file = str(folder / f"{self.name}.safetensors")
            safetensors.torch.save_file(state, file)
            del state, weights
            kept = {"dtype": dtype}  # as --fp16-unet: on a CPU the host would make 10 GB of SDXL's 5
            return comfy.sd.load_checkpoint_guess_config(file, False, False, model_options=kept)[0]
        if self.loader == "checkpoint":
            return comfy.sd.load_state_dict_guess_config(state, output_vae=False, output_clip=False)[0]
        return comfy.sd.load_diffusion_model_state_dict(state)


def _picture(*shape: int) -> torch.Tensor:
    return tiny_models.noise(1, *shape, seed=77)


def _seen() -> comfy.clip_vision.Output:
    """What CLIP Vision Encode gives."""
    found = comfy.clip_vision.Output()
    found["penultimate_hidden_states"] = tiny_models.noise(1, 257, 1280, seed=78)
    return found


RIGHT_HALF = torch.zeros(1, 1, 64, 64)
RIGHT_HALF[..., 32:] = 1
DIT: dict[str, Any] = {"loader": "diffusion model", "shape": (16, 8, 8)}
FLUX_USE: dict[str, Any] = {**DIT, "text": 4096, "pooled": 768, "cfg": 1.0}
VIDEO: dict[str, Any] = {**DIT, "text": 4096, "shape": (16, 3, 8, 8)}
SMALL: dict[str, Any] = {"loader": "", "text": 16, "shape": (16, 8, 8)}
ROWS = [
    Row("sd15", "SD 1.x", ModelType.EPS, supported.SD15, UNET, 768),
    Row(
        "sd2", "SD 2.x (v-prediction)", ModelType.V_PREDICTION, supported.SD20, SD2_UNET, 1024,
        extra={
            "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias": 0.2 * tiny_models.noise(320)
        },
    ),
    Row("sdxl", "SDXL", ModelType.EPS, supported.SDXL, SDXL_UNET, 2048, 1280),
    Row("refiner", "SDXL refiner", ModelType.EPS, supported.SDXLRefiner, REFINER_UNET, 1280, 1280),
    Row(
        "cosxl", "CosXL (EDM)", ModelType.V_PREDICTION_EDM, supported.SDXL, SDXL_UNET, 2048, 1280,
        extra={"edm_vpred.sigma_max": torch.tensor(80.0), "edm_vpred.sigma_min": torch.tensor(0.002)},
    ),
    Row(
        "inpaint", "SD 1.x inpainting (9 channels)", ModelType.EPS, supported.SD15, {**UNET, "in_channels": 9}, 768,
        options={"concat_latent_image": _picture(4, 8, 8), "concat_mask": RIGHT_HALF}, context=("c_concat",),
    ),
    Row(
        "ip2p", "InstructPix2Pix (8 channels)", ModelType.EPS, supported.SD15_instructpix2pix,
        {**UNET, "in_channels": 8}, 768, options={"concat_latent_image": _picture(4, 8, 8)}, context=("c_concat",),
    ),
    Row("sd3", "SD 3", ModelType.FLOW, supported.SD3, SD3_DIT, 4096, 2048, **DIT),
    Row(
        "flux", "Flux", ModelType.FLUX, supported.Flux, FLUX_DIT, **FLUX_USE,
        options={"guidance": 2.0}, context=("guidance",),
    ),
    Row(
        "kontext", "Flux Kontext", ModelType.FLUX, supported.Flux, FLUX_DIT, **FLUX_USE,
        options={
            "guidance": 2.0, "reference_latents": [_picture(16, 8, 8)], "reference_latents_method": "index",
        },
        context=("guidance", "ref_latents", "ref_latents_method"),
    ),
    Row(
        "flux2", "Flux.2", ModelType.FLUX, supported.Flux2, FLUX2_DIT, 7680, tokens=512, shape=(128, 4, 4), cfg=1.0,
        loader="diffusion model", options={"guidance": 2.0, "reference_latents": [_picture(128, 4, 4)]},
        context=("guidance", "ref_latents"),
    ),
    Row(
        "qwen", "Qwen Image Edit", ModelType.FLUX, supported.QwenImage, QWEN, **{**SMALL, "shape": (16, 1, 8, 8)},
        recognised={"image_model": "qwen_image", "in_channels": 64, "num_layers": 1},
        options={"reference_latents": [_picture(16, 1, 8, 8)]}, context=("ref_latents",),
    ),
    Row(
        "lumina", "Lumina 2", ModelType.FLOW, supported.Lumina2, LUMINA, **SMALL,
        recognised={**LUMINA, "dim": 2304, "n_heads": 24, "n_kv_heads": 8, "axes_dims": [32, 32, 32]},
    ),
    Row(
        "zimage", "Z-Image", ModelType.FLOW, supported.ZImage, Z_IMAGE, **SMALL,
        recognised={**Z_IMAGE, "dim": 3840, "n_heads": 30, "n_kv_heads": 30},
    ),
    Row("wan", "Wan 2.1 (video)", ModelType.FLOW, supported.WAN21_T2V, WAN_DIT, **VIDEO),
    Row(
        "wan_i2v", "Wan 2.1 image to video", ModelType.FLOW, supported.WAN21_I2V, WAN_I2V_DIT, **VIDEO,
        options={
            "concat_latent_image": _picture(16, 3, 8, 8), "concat_mask": torch.ones(1, 1, 3, 8, 8),
            "clip_vision_output": _seen(),
        },
        context=("c_concat", "clip_fea"),
    ),
    Row("sd15_full", "SD 1.5, whole", ModelType.EPS, supported.SD15, {**FULL_SIZE, **SD15}, 768, tokens=77,
        full_size=True),
    Row("sdxl_full", "SDXL, whole", ModelType.EPS, supported.SDXL, {**FULL_SIZE, **SDXL}, 2048, 1280, tokens=77,
        full_size=True),
]  # fmt: skip
