"""Small models of ComfyUI's own classes with random weights: one for each way in which families differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.supported_models as supported
import tiny
import torch
from random_weights import randomise

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
LUMINA = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 48, "n_layers": 1, "n_refiner_layers": 1,
    "n_heads": 2, "n_kv_heads": 2, "qk_norm": True, "cap_feat_dim": 16, "axes_dims": [8, 8, 8],
    "axes_lens": [32, 32, 32], "multiple_of": 16, "ffn_dim_multiplier": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """A MODEL, two conditionings and the shape of its latent without the batch."""

    model: Any
    positive: list
    negative: list
    shape: tuple[int, ...]

    def noise(self, batch: int = 1, seed: int = 1) -> torch.Tensor:
        return tiny.noise(batch, *self.shape, seed=seed)

    def sample(self, model: Any, start: torch.Tensor, steps: int = 4, cfg: float = 3.0, **options: Any) -> torch.Tensor:
        sigmas = tiny.schedule(model, steps)
        return tiny.sample_cfg(model, self.positive, self.negative, cfg, start, sigmas, **options)


def _built(config: Any, state: dict[str, torch.Tensor]) -> Any:
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model(state)
    model.device = tiny.CPU
    randomise(model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(model, tiny.CPU, tiny.CPU)


def _cond(seed: int, pooled: int = 0, tokens: int = 8) -> list:
    options = {"pooled_output": tiny.noise(1, pooled, seed=2000 + seed)} if pooled else {}
    return [[tiny.noise(1, tokens, 16, seed=1000 + seed), options]]


def _family(config: Any, shape: tuple[int, ...], pooled: int = 0, state: dict | None = None) -> Family:
    return Family(_built(config, state or {}), _cond(1, pooled), _cond(2, pooled), shape)


def sd() -> Family:
    return Family(tiny.unet_model(), tiny.unet_cond(1), tiny.unet_cond(2), (4, 8, 8))


SDXL = {**tiny.UNET, "num_classes": "sequential", "adm_in_channels": 2816, "use_linear_in_transformer": True}
HEADS = {"num_heads": 2, "num_head_channels": -1}


def sdxl() -> Family:
    config = supported.SDXL(SDXL)
    config.unet_config.update(HEADS)
    return _family(config, (4, 8, 8), pooled=1280)


def sd3() -> Family:
    return _family(supported.SD3(SD3), (16, 8, 8), pooled=2048)


def flux() -> Family:
    return _family(supported.Flux(FLUX), (16, 8, 8), pooled=8)


def lumina() -> Family:
    return _family(supported.Lumina2(LUMINA), (16, 8, 8))


def wan() -> Family:
    return _family(supported.WAN21_T2V(WAN), (16, 3, 8, 8))


def instruct_pix2pix() -> Family:
    """SD 1.5 with a picture's latent in four further input channels."""
    config = supported.SD15_instructpix2pix({**tiny.UNET, "in_channels": 8})
    config.unet_config.update(HEADS)
    return _family(config, (4, 8, 8))


def sdxl_instruct_pix2pix(cosxl: bool) -> Family:
    """The same of SDXL. cosxl: as CosXL Edit, of which the host scales the picture too."""
    config = supported.SDXL_instructpix2pix({**SDXL, "in_channels": 8})
    config.unet_config.update(HEADS)
    state = {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)}
    return _family(config, (4, 8, 8), pooled=1280, state=state if cosxl else {})


FAMILIES = {"sd": sd, "sdxl": sdxl, "sd3": sd3, "flux": flux, "lumina": lumina, "wan": wan}
