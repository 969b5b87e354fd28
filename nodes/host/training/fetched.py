"""Weights that the host brings to the device for one use, again for the way back.

A layer's gradient needs its weight a second time. Of a model that is not wholly on the device (little memory, or
ComfyUI's dynamic memory, its usual one on NVIDIA) that one lies in a buffer which other layers' weights have had since,
or in memory that was given away: what autograd has kept is no longer the weight, without an error.
"""

from __future__ import annotations

import contextlib
from typing import Any

from comfy.ops import CastWeightBiasOp
from torch import nn
from torch.utils.checkpoint import checkpoint

from .forwards import replaced_forwards

CACHED = "_v_signature"  # of dynamic memory: which weight lies on the device, made in the inference mode of sampling


def fetched_again(model: Any, network: nn.Module) -> contextlib.AbstractContextManager[None]:
    """While this is open each layer of such a model is computed a second time on the way back, with its weight brought
    anew. Of a model that is on the device as a whole nothing changes."""
    if not model.is_dynamic() and model.loaded_size() >= model.model_size():
        return contextlib.nullcontext()
    layers = [module for module in network.modules() if isinstance(module, CastWeightBiasOp)]
    for layer in layers:
        if hasattr(layer, CACHED):
            setattr(layer, CACHED, None)
    return replaced_forwards(layers, _second_time)


def _second_time(forward: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return call
