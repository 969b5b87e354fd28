"""Runs of the pack's own samplers, through the host's guider."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.utils
import latent_preview
from torch import Tensor


def guider_for(model: Any, conds: dict[str, Any], cfg: float = 1.0) -> Any:
    """The host's guider with the given conditionings."""
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds(conds)
    guider.set_cfg(cfg)
    return guider


def run_sampler(guider: Any, sampler: Any, sigmas: Tensor, samples: Tensor, noise: Tensor, seed: int) -> Tensor:
    """One run of a Sampler with the host's progress and preview; the host's samples, on the intermediate device."""
    callback = latent_preview.prepare_callback(guider.model_patcher, len(sigmas) - 1)
    quiet = not comfy.utils.PROGRESS_BAR_ENABLED
    out = guider.sample(noise, samples, sampler, sigmas, callback=callback, disable_pbar=quiet, seed=seed)
    return out.to(comfy.model_management.intermediate_device())
