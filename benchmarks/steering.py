"""SEGA as a user has it: the pack's nodes before one of ComfyUI's own runs."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.samplers
import torch
from semantic_steering.nodes.sega import (  # pyright: ignore[reportMissingImports]
    SEGAConceptConditioning,
    SEGAGuidance,
)
from torch import Tensor

SCALE, THRESHOLD = 1.0, 0.9
WARM_UP = 0.2  # of the steps, as in the papers
MOMENTUM = (0.1, 0.4)  # the reference's own defaults
NO_MOMENTUM = (0.0, 0.4)  # the nodes' own


def steer(
    model: Any, concepts: list[list], momentum: tuple[float, float] = MOMENTUM, start: float = WARM_UP,
    end: float = 1.0, base: str = "auto", threshold: float = THRESHOLD, refresh: int = 1,
) -> Any:  # fmt: skip
    """SEGA Concept (Conditioning), chained, and SEGA Guidance."""
    chain = None
    for concept in concepts:
        (chain,) = SEGAConceptConditioning.execute(
            concept, scale=SCALE, start_percent=start, end_percent=end, threshold=threshold, concepts=chain
        ).args
    (steered,) = SEGAGuidance.execute(model, chain, *momentum, base=base, refresh=refresh).args
    return steered


def sample(
    model: Any, positive: list, negative: list, noise: Tensor, sigmas: Tensor, cfg: float, latent: Any = None
) -> Tensor:
    """An Euler run with ComfyUI's guider, as its KSampler makes it."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    sampler = comfy.samplers.sampler_object("euler")
    latent = torch.zeros_like(noise) if latent is None else latent
    # The host's node hands the levels over on the device too.
    sigmas = sigmas.to(comfy.model_management.get_torch_device())
    return guider.sample(noise, latent, sampler, sigmas, disable_pbar=True, seed=0)
