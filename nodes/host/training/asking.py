"""How a training step asks the network: frozen, or with the slider in training."""

from __future__ import annotations

import copy
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.conds import CONDList
from comfy.ldm.modules.attention import attention_pytorch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....guidance_core import noise_estimate
from ..page.progress import stop_if_cancelled
from ..run.patches import PREFIX
from ..run.travelling import arrived, with_strengths
from .factors import Factors

KEY = f"{PREFIX}training"


def carry_strengths(guider: Any, factors: Factors) -> None:
    """Have every forward pass of a guider's runs act with the strengths that travel with its conditionings."""

    def apply_model(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        stop_if_cancelled()
        strengths = arrived(kwargs)
        factors.strengths = None if strengths is None else strengths.to(x.device, torch.float32)
        return executor(x, *args, **kwargs)

    # A guider's options are the MODEL's own until a run begins.
    guider.model_options = comfy.model_patcher.create_model_options_clone(guider.model_options)
    comfy.patcher_extension.add_wrapper_with_key(
        WrappersMP.APPLY_MODEL, KEY, apply_model, guider.model_options, is_model_options=True
    )
    guider.model_options.setdefault("transformer_options", {})["optimized_attention_override"] = _with_a_way_back


def _with_a_way_back(_: Any, *args: Any, **kwargs: Any) -> Tensor:
    """PyTorch's attention, whatever the host or a patch would take: SageAttention, and the host's own of little memory,
    have no gradient."""
    return attention_pytorch(*args, **kwargs)


class Asked:
    """The network of one run. All tensors on its device; estimates are n = (x − x0)/σ, float32."""

    def __init__(self, guider: Any, model_options: dict):
        self.model, self.options = guider.inner_model, model_options
        self.device = guider.model_patcher.load_device
        self.conds = {name: [_outside_inference(cond) for cond in conds] for name, conds in guider.conds.items()}

    @torch.no_grad()
    def frozen(self, x: Tensor, sigma: Tensor, names: list[str]) -> list[Tensor]:
        """Estimates of the model as it was loaded, for several conditionings, in as few calls as the host has room for.
        x: [B, ...]; sigma: [B]."""
        return [
            noise_estimate(x, found, sigma) for found in self._asked([self.conds[name] for name in names], x, sigma)
        ]

    def trained(self, x: Tensor, sigma: Tensor, name: str, strengths: Tensor) -> Tensor:
        """Estimates with the slider at a strength for each picture, [B]; gradients reach the factors alone."""
        conds = [with_strengths(cond, strengths[:, None]) for cond in self.conds[name]]
        return noise_estimate(x, self._asked([conds], x, sigma)[0], sigma)

    def _asked(self, conds: list[list[dict]], x: Tensor, sigma: Tensor) -> list[Tensor]:
        return comfy.samplers.calc_cond_batch(self.model, conds, x, sigma, self.options)


def _outside_inference(cond: dict) -> dict:
    """A conditioning of a run whose tensors autograd can keep: nodes run in inference mode."""
    model_conds = {}
    for key, value in cond["model_conds"].items():
        model_conds[key] = own = copy.copy(value)
        own.cond = [_cloned(each) for each in value.cond] if isinstance(value, CONDList) else _cloned(value.cond)
    return {key: _cloned(value) for key, value in cond.items()} | {"model_conds": model_conds}


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
