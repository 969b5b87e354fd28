"""Sliders as a model patch: one OUTER_SAMPLE wrapper that serves every sampler node and guider.

A slider that acts in the whole run with one strength is an ordinary weight patch, where its layers have weights. The
others travel with the MODEL and are planned together when a run begins, in one of two ways:

- SwitchedWeights: at a window's edge the run goes over to a clone of the model with ordinary weight patches. Between
  the edges a step costs what the host's own LoRA costs.
- HookedSliders: forward hooks, where one set of weights cannot serve the whole batch.

Nothing is loaded again when a run ends: the next one, of whatever kind, restores the weights that it needs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ....guidance_core import Window, edges_crossed
from ..lora.fitting import Layers
from ..lora.shapes import INSTEAD
from ..page.messages import Message, input_name, lines, message
from ..page.no_numbers import advice_on
from ..page.progress import show_text
from ..page.told import tell
from ..page.verdict import window_message
from ..run.patches import PREFIX, Patch, Use, add_outer_sample, check_one_model, declare
from .acting import ActingSlider
from .hooked import HookedSliders
from .layer_hooks import why_not
from .switched import SwitchedWeights

logger = logging.getLogger("semantic_steering")

SLIDERS = declare(
    Patch(
        f"{PREFIX}sliders",
        "a slider with a window or a sweep",
        "Slider LoRA Loader or Slider Sweep",
        windowed=True,
        refused={
            Use.TWO_MODELS: "it runs two models. Use CFGGuider, or set start_percent to 0 and end_percent to 1 (then "
            "it is an ordinary LoRA)"
        },
    )
)
APPLY_TO = ("both", "positive")
STRONGEST = 20.0
# Each edge writes the patched weights once; more of them cost more than hooks at every step.
MOST_EDGES = 8
# Why one set of weights cannot serve a whole batch, and what to do where a slider's kind of weights needs it to.
ADVICE = {
    "different strengths within a batch": "sample each strength in a run of its own, with Slider LoRA Loader",
    "a slider of the positive only": "set apply_to to both",
    "hooks on the conditionings": "remove them, or set this slider's window to 0 and 1",
    "several GPUs": "set this slider's window to 0 and 1, or sample on one",
    "layers without weights": INSTEAD,
    f"more than {MOST_EDGES} window edges": "give several sliders the same window",
}


@dataclass(frozen=True)
class Slider:
    """One slider as its node was filled in. strengths: one for all pictures, or one for each of the batch; node: the id
    of the node that says what the slider did."""

    layers: Layers
    strengths: tuple[float, ...]
    window: Window
    apply_to: str = "both"
    node: str | None = None

    def __post_init__(self) -> None:
        for strength in self.strengths:
            if not (math.isfinite(strength) and abs(strength) <= STRONGEST):
                raise ValueError(
                    f"strength is {strength}; it must be a number from {-STRONGEST:g} to {STRONGEST:g} (mostly -3 to 3)"
                )
        if self.apply_to not in APPLY_TO:
            raise ValueError(f"apply_to is {self.apply_to!r}; it must be {' or '.join(APPLY_TO)}")

    @property
    def neutral(self) -> bool:
        return not any(self.strengths) or self.window.empty or not self.layers.model

    @property
    def sweeps(self) -> bool:
        return len(self.strengths) > 1

    @property
    def whole_run(self) -> bool:
        """True if the slider is no more than a weight patch."""
        alike = self.apply_to == "both" and not self.sweeps
        return self.window == Window() and alike and self.layers.no_weight is None

    def for_run(self, model_sampling: Any) -> ActingSlider:
        """The slider in the model's own noise levels."""
        window = self.window.in_sigmas(model_sampling.percent_to_sigma)
        return ActingSlider(self.layers.model, self.strengths, window, self.apply_to == "positive")

    def verdict(self, acting: ActingSlider, levels: list[float], broken: Sequence[Message]) -> Message:
        """What the slider did in a run with these noise levels, for people. broken: what is said of the run's result
        where that is no numbers."""
        steps = acting.window.steps(levels)
        active = message("active", steps=steps, total=len(levels) - 1)
        if steps:
            return lines([active, *broken])
        missed = window_message("window_without_step", "SliderLoRALoader")
        return lines([active, message("advice", advice=missed)])


def with_slider(model: Any, slider: Slider) -> Any:
    """A clone of a MODEL with a slider added to those it has."""
    patched = model.clone()
    if slider.neutral:
        return patched
    if slider.whole_run:
        patched.add_patches(slider.layers.model, slider.strengths[0])
        return patched
    if slider.layers.resized is not None:
        raise ValueError(
            f"{slider.layers.label} changes {slider.layers.resized}, which cannot come and go within a run or differ "
            "within a batch. Use Slider LoRA Loader with start_percent 0, end_percent 1 and apply_to both"
        )
    before = model.attachments.get(SLIDERS.key, ())
    patched.set_attachments(SLIDERS.key, (*before, slider))
    if not before:
        add_outer_sample(patched, SLIDERS, _outer_sample)
    return patched


def _outer_sample(executor: Any, noise: Tensor, latent_image: Tensor, sampler: Any, sigmas: Tensor,
                  *args: Any, **kwargs: Any) -> Tensor:  # fmt: skip
    guider = executor.class_obj
    sliders = guider.model_patcher.attachments[SLIDERS.key]
    run = plan(guider, sliders, len(noise), sigmas)
    run.register()
    samples = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    broken = advice_on(samples, [input_name("SliderLoRALoader", "strength"), "cfg"])
    for slider, acting in zip(sliders, run.sliders, strict=True):
        text = slider.verdict(acting, sigmas.tolist(), broken)
        if slider.node is not None:
            show_text(text, slider.node)
        samples = tell(samples, message("named", name=slider.layers.label, what=text))
    return samples


def plan(guider: Any, sliders: Sequence[Slider], batch: int, sigmas: Tensor) -> SwitchedWeights | HookedSliders:
    """How the sliders act in this run. Raises ValueError, before anything is loaded, for what cannot be sampled."""
    check_one_model(guider, SLIDERS)
    if any(slider.apply_to == "positive" for slider in sliders) and not guider.conds.get("positive"):
        raise ValueError(
            f"apply_to is positive, but this guider has no positive conditioning (it has {', '.join(guider.conds)}). "
            "Set apply_to to both, or use CFGGuider"
        )
    windows = guider.model_options.get("context_handler")
    for slider in sliders:
        if slider.sweeps and windows is not None and windows.dim == 0 and batch > windows.context_length:
            raise ValueError(
                "the model carries a sweep of strengths, and its context windows (dim 0) take the batch apart. Remove "
                "them, or sample each strength in a run of its own with Slider LoRA Loader"
            )
        if slider.sweeps and len(slider.strengths) != batch:
            raise ValueError(
                f"the model carries a sweep of {len(slider.strengths)} strengths, the latent has a batch of {batch}; "
                "connect the latent output of the same Slider Sweep to the sampler"
            )
    levels = [float(sigma) for sigma in sigmas]
    acting = [slider.for_run(guider.model_patcher.get_model_object("model_sampling")) for slider in sliders]
    evaluated = [level for level in levels if level > 0] or [0.0]
    edges = edges_crossed([part.window for part in acting], max(evaluated), min(evaluated))
    names = ", ".join(slider.layers.label for slider in sliders)
    reason = _why_hooks(guider, sliders, len(edges))
    if reason is None:
        logger.info("%s: the weights change at %d edges of this run", names, len(edges))
        return SwitchedWeights(guider, acting, levels, batch)
    for slider in sliders:
        problem = why_not(slider.layers.model, guider.model_patcher.model)
        if problem is not None:
            raise ValueError(f"{slider.layers.label} holds {problem}, which cannot act with {reason}: {ADVICE[reason]}")
    logger.info("%s: forward hooks, because of %s", names, reason)
    return HookedSliders(guider, acting, at_once=True)


def _why_hooks(guider: Any, sliders: Sequence[Slider], edges: int) -> str | None:
    """Why one set of weights cannot serve a whole batch, one of ADVICE, or None."""
    sweep, positive, hooks, devices, weightless, many = ADVICE
    if any(slider.sweeps for slider in sliders):
        return sweep
    if any(slider.apply_to == "positive" for slider in sliders):
        return positive
    if any("hooks" in cond for conds in guider.conds.values() for cond in conds):
        return hooks
    if guider.model_patcher.get_additional_models_with_key("multigpu"):
        return devices
    if any(slider.layers.no_weight for slider in sliders):
        return weightless
    return many if edges > MOST_EDGES else None
