"""Concept vectors as a model patch: a recorded edit is added to every run, without evaluating any concept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import comfy.patcher_extension
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....guidance_core import at_sigma
from ..conditioning.checks import check_latent
from ..page import no_numbers
from ..page.messages import input_name
from ..run.patches import PREFIX, Patch, add_outer_sample, declare
from .vectors import RECORD_AGAIN, ConceptVectors

VECTORS = declare(Patch(f"{PREFIX}vectors", "concept vectors", "SEGA Apply Vectors", windowed=True))


def with_vectors(model: Any, vectors: ConceptVectors, scale: float, node: str | None = None) -> Any:
    """A clone of a MODEL to which scale·γ is added in every run. node: the id of the node that says where a run ended
    in no numbers. Raises ValueError for another model's vectors."""
    if not math.isfinite(scale):
        raise ValueError(f"scale is {scale}; it must be a finite number (1 = as recorded)")
    patched = model.clone()
    vectors.check()
    if scale == 0 or vectors.neutral:
        return patched

    def outer_sample(executor: Any, noise: Tensor, latent_image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        guider = executor.class_obj
        shapes = kwargs.get("latent_shapes") or [latent_image.shape]
        vectors.model.check(guider.model_patcher, "the vectors were", RECORD_AGAIN)
        check_latent(guider.model_patcher, shapes)
        predict = _adding(vectors.fitted(torch.Size(shapes[0])), vectors.sigmas, scale)
        comfy.patcher_extension.add_wrapper_with_key(
            WrappersMP.PREDICT_NOISE, VECTORS.key, predict, guider.model_options, is_model_options=True
        )
        samples = executor(noise, latent_image, *args, **kwargs)
        no_numbers.warn(samples, [input_name("SEGAApplyVectors", "scale"), "cfg"], "SEGA Apply Vectors", node)
        return samples

    add_outer_sample(patched, VECTORS, outer_sample)
    return patched


def _adding(gamma: Tensor, sigmas: tuple[float, ...], scale: float) -> Callable[..., Tensor]:
    """A PREDICT_NOISE wrapper: x0 − σ·scale·γ(σ)."""

    def predict(
        executor: Any, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: Any = None
    ) -> Tensor:
        # All before the model is queued, so that nothing has to wait for it.
        sigma = float(timestep.flatten()[0])
        found = at_sigma(gamma, sigmas, sigma) if sigma > 0 else None
        term = None if found is None else found.to(x.device)
        denoised = executor(x, timestep, model_options or {}, seed)
        return denoised if term is None else denoised - sigma * scale * term

    return predict
