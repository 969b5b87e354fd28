"""The two ways in which sliders act in a run: switched weights and forward hooks. Each object is one run's state."""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.sampler_helpers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....guidance_core import SAME_LEVEL, Phase, SigmaWindow
from ..editing import instruct_pix2pix
from ..page.progress import stop_if_cancelled
from ..sega import run as sega
from .layer_hooks import LayerHooks, why_not

logger = logging.getLogger("semantic_steering")

KEY = "semantic_steering.sliders.run"


@dataclass(frozen=True)
class ActingSlider:
    """A slider in one run. patches: the host's, by weight; strengths: one, or one a picture; window: in σ."""

    patches: dict[Any, Any]
    strengths: tuple[float, ...]
    window: SigmaWindow
    positive_only: bool


Acting = tuple[bool, ...]  # for each slider, whether σ is inside its window


def acting_at(sliders: Sequence[ActingSlider], sigma: float) -> Acting:
    return tuple(slider.window.phase(sigma) is Phase.INSIDE for slider in sliders)


def _register(guider: Any, wrappers: dict[str, Any]) -> None:
    """The guider keeps its model options, and these wrappers in them, for this run only."""
    for kind, wrapper in wrappers.items():
        comfy.patcher_extension.add_wrapper_with_key(kind, KEY, wrapper, guider.model_options, is_model_options=True)


class SwitchedWeights:
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
        _register(self.guider, wrappers)
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
        more_conds = sum(key.startswith((sega.KEY, instruct_pix2pix.KEY)) for key in conds)
        shape = [max(noise_shape[0], self.batch + math.ceil(self.batch * more_conds / 2)), *noise_shape[1:]]
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


class HookedSliders:
    """Sets the strengths of forward hooks for each chunk and picture of every forward pass.

    at_once: attach the hooks when sampling begins, not only when `attach` is called.
    """

    def __init__(self, guider: Any, sliders: Sequence[ActingSlider], at_once: bool):
        self.guider, self.sliders, self.at_once = guider, sliders, at_once
        self.attached = False
        self._hooks = LayerHooks()
        self._networks: list[torch.nn.Module] = []
        self._positive: set[Any] = set()
        self._tables: dict[Any, Tensor | None] = {}

    def register(self) -> None:
        wrappers = {WrappersMP.SAMPLER_SAMPLE: self._sampler_sample, WrappersMP.APPLY_MODEL: self._apply_model}
        _register(self.guider, wrappers)

    def attach(self) -> None:
        self._hooks.attach([slider.patches for slider in self.sliders], self._networks)
        self.attached = True

    def _sampler_sample(
        self, executor: Any, guider: Any, sigmas: Tensor, extra_args: dict, *args: Any, **kwargs: Any
    ) -> Tensor:
        clones = extra_args["model_options"].get("multigpu_clones", {}).values()
        self._networks = list({id(p.model): p.model for p in (guider.model_patcher, *clones)}.values())
        if any(slider.positive_only for slider in self.sliders):
            # The host gives copies for other areas their original's uuid; new ones tell the positive from those.
            for cond in guider.conds["positive"]:
                cond["uuid"] = uuid.uuid4()
            self._positive = {cond["uuid"] for cond in guider.conds["positive"]}
        try:
            if self.at_once:
                self.attach()
            return executor(guider, sigmas, extra_args, *args, **kwargs)
        finally:
            self._hooks.remove()

    def _apply_model(
        self, executor: Any, x: Tensor, t: Tensor, c_concat: Any = None, c_crossattn: Any = None, control: Any = None,
        transformer_options: dict | None = None, **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        stop_if_cancelled()  # samplers look at each of their steps only
        options = transformer_options or {}
        strengths = self._hooks.strengths.get(id(executor.class_obj))
        if strengths is None:
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
        strengths.value = self._table(float(t.flatten()[0]), options, x)
        try:
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
        finally:
            strengths.value = None

    def _table(self, sigma: float, options: dict, x: Tensor) -> Tensor | None:
        """Strengths [N, K] of the N entries of this forward pass, [1, K] if they agree, None if no slider acts."""
        acting = acting_at(self.sliders, sigma)
        positive = tuple(mark in self._positive for mark in options.get("uuids", ()))
        key = (acting, positive, len(x), x.device)
        if key not in self._tables:
            self._tables[key] = self._new_table(acting, positive, len(x), x.device)
        return self._tables[key]

    def _new_table(self, acting: Acting, positive: tuple[bool, ...], entries: int, device: Any) -> Tensor | None:
        alike = not any(len(s.strengths) > 1 or s.positive_only for s in self.sliders)
        chunks = (True,) if alike else positive or (False,)
        pictures = 1 if alike else entries // len(chunks)
        table = torch.tensor([
            [
                s.strengths[i % len(s.strengths)] * (acts and (chunk or not s.positive_only))
                for s, acts in zip(self.sliders, acting, strict=True)
            ]
            for chunk in chunks
            for i in range(pictures)
        ])  # fmt: skip
        return table.to(device) if table.any() else None
