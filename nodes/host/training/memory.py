"""What a step of training needs, by the host's own figure of a run, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management

from .factors import Factors

# A step with its graph, as a multiple of what the host reckons for a run of as many pictures: (with all that the
# blocks compute kept, with their inputs alone). `dev.py bench training`: SD 1.5 14.0 and 2.2, SDXL 28.8 and 3.6. Where
# a family needs more, the step that runs out of memory is tried with less. The host reckons 7.5 times as much where
# attention is not computed in one go (a CPU), and a CPU's numbers are twice as long.
IN_ONE_GO, IN_PARTS = (29.0, 3.6), (8.0, 1.0)
KEPT_OF_A_LAYER = 16.0  # bytes of a text encoder's graph, for each number that a layer takes or gives
FACTOR_COPIES = 4  # of each number: itself, its gradient, and Adam's two moments
GIGABYTE = 1e9


@dataclass(frozen=True)
class Plan:
    """How a step is computed. at_once: its rows that are in memory together; small: whether blocks are recomputed;
    needed, free: bytes beside the model's own."""

    at_once: int
    small: bool
    needed: float
    free: float


def planned(model: Any, shape: Sequence[int], batch_size: int, factors: Factors) -> Plan:
    """The fastest way that fits, for states [C, ...]: all rows of a step at once, fewer, then with blocks recomputed.

    Raises ValueError where even the smallest does not, all other models unloaded.
    """
    free = _free(model)
    plans = [
        Plan(at_once, small, _needed(model, shape, at_once, small, factors), free)
        for small in (False, True)
        for at_once in _halves(batch_size)
    ]
    fitting = next((plan for plan in plans if plan.needed <= free), None)
    if fitting is not None:
        return fitting
    least = plans[-1]
    if least.needed > free + model.loaded_size():
        raise ValueError(
            f"training this model at this size needs about {least.needed / GIGABYTE:.1f} GB beside its weights, "
            f"{free / GIGABYTE:.1f} GB are free: lower width and height, choose self-attention in layers, or load the "
            "model in fewer bits (fp8)"
        )
    return least


def planned_for_texts(clip: Any, tokens: int, factors: Factors) -> Plan:
    """The same for texts that are in memory one at a time, at both signs. tokens: of the longest.

    Raises ValueError where one does not fit.
    """
    graph = 2 * tokens * sum(sum(layer.sizes) for layer in factors.layers) * KEPT_OF_A_LAYER
    needed, free = graph + FACTOR_COPIES * _size(factors), _free(clip.patcher)
    if needed > free + clip.patcher.loaded_size():
        raise ValueError(
            f"training these text encoders needs about {needed / GIGABYTE:.1f} GB beside their weights, "
            f"{free / GIGABYTE:.1f} GB are free: choose self-attention in layers, lower rank, or load them in fewer "
            "bits (fp8)"
        )
    return Plan(1, False, needed, free)


def _halves(count: int) -> list[int]:
    found = [count]
    while found[-1] > 1:
        found.append((found[-1] + 1) // 2)
    return found


def _needed(model: Any, shape: Sequence[int], at_once: int, small: bool, factors: Factors) -> float:
    run = model.memory_required([2 * at_once, *shape])  # both signs
    kept, recomputed = multiples()
    return run * (recomputed if small else kept) + FACTOR_COPIES * _size(factors)


def _size(factors: Factors) -> float:
    return sum(parameter.numel() * parameter.element_size() for parameter in factors.parameters.values())


def multiples() -> tuple[float, float]:
    """By which of its two rules the host reckons."""
    host = comfy.model_management
    return IN_ONE_GO if host.xformers_enabled() or host.pytorch_attention_flash_attention() else IN_PARTS


def _free(model: Any) -> float:
    """Bytes once the model is loaded and all others are not."""
    device = model.load_device
    others = [
        loaded.model_loaded_memory()
        for loaded in comfy.model_management.current_loaded_models
        if loaded.device == device and loaded.model is not None and not loaded.model.is_clone(model)
    ]
    to_load = model.model_size() - model.loaded_size()
    free: Any = comfy.model_management.get_free_memory(device)
    return free + sum(others) - to_load
