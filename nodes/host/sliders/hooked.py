"""Sliders as forward hooks: strengths for each chunk and picture of every forward pass."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..page.progress import stop_if_cancelled
from .acting import Acting, ActingSlider, acting_at, register
from .layer_hooks import LayerHooks


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
        register(self.guider, wrappers)

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
