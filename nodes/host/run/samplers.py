"""Runs of the pack's own samplers, through the host's guider."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.utils
import latent_preview
from torch import Tensor

from .evolved_sampling import check_one_pass

logger = logging.getLogger("semantic_steering")

MODEL_FUNCTION = "model_function_wrapper"


def takes_steps_back(sampler: Any) -> bool:
    """Whether a sampler tries steps and rejects some of them; the host calls back for these too."""
    return _function(sampler) == "dpm_adaptive_function"


def is_cfg_pp(sampler: Any) -> bool:
    """Whether a sampler steps from the estimate without guidance (CFG++): what is added to the estimate then reaches
    the picture whole in every step, not in proportion to the step."""
    return "cfg_pp" in _function(sampler)


def _function(sampler: Any) -> str:
    return getattr(getattr(sampler, "sampler_function", None), "__name__", "")


def guider_for(model: Any, conds: dict[str, Any], cfg: float = 1.0) -> Any:
    """The host's guider with the given conditionings, of a model that is asked in every step."""
    check_one_pass(model)
    guider = comfy.samplers.CFGGuider(without_step_caches(model))
    guider.inner_set_conds(conds)
    guider.set_cfg(cfg)
    return guider


def without_step_caches(model: Any) -> Any:
    """The MODEL, or a clone without what answers in the network's place with something kept from an earlier step.

    An inversion asks at levels and in an order that such a cache (EasyCache, LazyCache, TeaCache and its like) is not
    made for: it reports a solved step and comes back as another picture. They are wrappers, or a model function, and
    are known by their names.
    """
    found = {_name(key, function) for key, function in _functions(model) if "cache" in _name(key, function).lower()}
    if not found:
        return model
    logger.info("this run asks the model itself, without the step cache it carries (%s)", ", ".join(sorted(found)))
    clone = model.clone()
    for by_key in clone.wrappers.values():
        for key, functions in by_key.items():
            by_key[key] = [function for function in functions if _name(key, function) not in found]
    function = clone.model_options.get(MODEL_FUNCTION)
    if function is not None and _name(None, function) in found:
        del clone.model_options[MODEL_FUNCTION]
    return clone


def _functions(model: Any) -> Iterator[tuple[str | None, Any]]:
    """What may stand between a sampler and the network: (its key, the function)."""
    for by_key in model.wrappers.values():
        for key, functions in by_key.items():
            yield from ((key, function) for function in functions)
    if MODEL_FUNCTION in model.model_options:
        yield None, model.model_options[MODEL_FUNCTION]


def _name(key: str | None, function: Any) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return key or f"{named.__module__.rpartition('.')[2]}.{named.__qualname__.partition('.')[0]}"


def handed_on(samples: Tensor) -> Tensor:
    """A run's result as the host hands it on: it moves the tensor there and, finding it there, leaves it as it is. So
    what is kept by the tensor itself is found again by the nodes that get it."""
    return samples.to(comfy.model_management.intermediate_device(), comfy.model_management.intermediate_dtype())


def run_sampler(guider: Any, sampler: Any, sigmas: Tensor, samples: Tensor, noise: Tensor, seed: int) -> Tensor:
    """One run of a Sampler with the host's progress and preview; the host's samples, on the intermediate device."""
    callback = latent_preview.prepare_callback(guider.model_patcher, len(sigmas) - 1)
    quiet = not comfy.utils.PROGRESS_BAR_ENABLED
    out = guider.sample(noise, samples, sampler, sigmas, callback=callback, disable_pbar=quiet, seed=seed)
    return out.to(comfy.model_management.intermediate_device())
