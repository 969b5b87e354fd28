"""Sliders as weight patches that change at the edges of their windows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import comfy.model_management
import comfy.sampler_helpers
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....guidance_core import SAME_LEVEL
from ..run.batched_call import counted
from ..run.patches import OfOneRun
from .acting import Acting, ActingSlider, acting_at, register
from .hooked import HookedSliders
from .layer_hooks import why_not

logger = logging.getLogger("semantic_steering")


class SwitchedWeights(OfOneRun):
    """Loads clones of the model with other weight patches as σ crosses the windows' edges.

    A sampler that goes back over an edge (heunpp2, adaptive ones) would have the weights written again and again;
    there forward hooks take over for the rest of the run, if the sliders can be hooks.
    """

    def __init__(self, guider: Any, sliders: Sequence[ActingSlider], levels: list[float], batch: int):
        self.guider, self.sliders, self.batch = guider, sliders, batch
        self.hooked = HookedSliders(guider, sliders, at_once=False)
        self.levels = levels
        self.loaded = acting_at(sliders, levels[0])
        self.falls = levels[0] >= levels[-1]
        self.farthest = levels[0]  # the σ that the run has come to
        self.variants: dict[Acting, Any] = {}
        self.beside: list[Any] = []
        self.memory: dict[str, Any] = {}

    def register(self) -> None:
        wrappers = {
            WrappersMP.PREPARE_SAMPLING: self._prepare_sampling,
            WrappersMP.PREDICT_NOISE: self._predict_noise,
        }
        register(self.guider, wrappers)
        self.hooked.register()

    def _variant(self, acting: Acting) -> Any:
        """The model with the weights of the sliders that act, the same object throughout the run."""
        base = self.guider.model_patcher
        if not any(acting):
            return base
        if acting not in self.variants:
            clone = base.clone()
            # Whichever clone is loaded has the injections of other packs; the models beside it stay the run's own.
            clone.is_injected, clone.additional_models = False, base.additional_models
            for slider, acts in zip(self.sliders, acting, strict=True):
                if acts:
                    clone.add_patches(slider.patches, slider.strengths[0])
            self.variants[acting] = clone
        return self.variants[acting]

    def _prepare_sampling(
        self, executor: Any, model: Any, noise_shape: Any, conds: dict, *args: Any, **kwargs: Any
    ) -> Any:
        """Loads what the run begins with, and keeps the figures that the host loads a model with."""
        for level in self.levels:
            self._variant(acting_at(self.sliders, level))  # here, so that no step has to wait for it
        result = executor(self._variant(self.loaded), noise_shape, conds, *args, **kwargs)
        self.beside = list(result[2])
        # The pack's other wrappers may come after this one: what they add is counted here as they count it.
        shape = [max(noise_shape[0], counted(self.batch, conds)), *noise_shape[1:]]
        most, least = comfy.sampler_helpers.estimate_memory(model, shape, conds)
        _, more = comfy.sampler_helpers.get_additional_models(conds, model.model_dtype())
        self.memory = {"memory_required": most + more, "minimum_memory_required": least + more}
        return result

    def _predict_noise(
        self, executor: Any, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: Any = None
    ) -> Tensor:
        sigma = float(timestep.flatten()[0])
        acting = acting_at(self.sliders, sigma)
        goes_back = sigma > self.farthest * (1 + SAME_LEVEL) if self.falls else sigma < self.farthest * (1 - SAME_LEVEL)
        if not goes_back:
            self.farthest = sigma
        if acting != self.loaded and not self.hooked.attached:
            network = self.guider.model_patcher.model
            if goes_back and not any(why_not(slider.patches, network) for slider in self.sliders):
                logger.info("sliders: this sampler goes back over a window's edge; forward hooks from here on")
                self._load((False,) * len(acting))
                self.hooked.attach()
            else:
                self._load(acting)
        return executor(x, timestep, model_options or {}, seed)

    def _load(self, acting: Acting) -> None:
        comfy.model_management.load_models_gpu([self._variant(acting), *self.beside], **self.memory)
        self.loaded = acting
