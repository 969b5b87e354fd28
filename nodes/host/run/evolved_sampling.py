"""Beside AnimateDiff-Evolved's Use Evolved Sampling, which puts its own guidance in the host's place for a run."""

from __future__ import annotations

from typing import Any

import comfy.samplers

# Where that pack keeps what a MODEL carries of it.
MOTION_MODELS, SAMPLE_SETTINGS = "ADE", "ADE_sample_settings"
NAME = "AnimateDiff-Evolved's Use Evolved Sampling"


def guidance_is_replaced() -> bool:
    """Whether a run's guidance is not the host's. It asks for positive and negative directly, past the slot for
    estimates, after it has made ready what its windows and motion models read."""
    return comfy.samplers.sampling_function.__module__ != comfy.samplers.__name__


def check_motion(model: Any, what: str) -> None:
    """Raises ValueError for motion models that give positive and negative a picture which nothing else has."""
    for motion in model.additional_models.get(MOTION_MODELS, []):
        if getattr(motion.model, "conv_in", None) is not None:
            raise ValueError(
                f"{what} cannot act beside the PIA or FancyVideo motion model of {NAME}: it shows its picture to "
                "positive and negative alone. Connect another motion model there, or the model from before that node"
            )


def check_one_pass(model: Any) -> None:
    """Raises ValueError for a model whose runs are sampled several times or in parts."""
    settings = model.get_attachment(SAMPLE_SETTINGS)
    if settings is None:
        return
    for name, repeats in (
        ("iteration_opts (FreeInit)", settings.iteration_opts.iterations > 1),
        ("image_inject", not settings.image_injection.is_empty()),
    ):
        if repeats:
            raise ValueError(
                f"the model's runs are sampled more than once: {NAME} has sample_settings with {name}, beside which "
                "nothing can be inverted, masked or decoded. Disconnect it there, or connect the model from before "
                "that node"
            )
