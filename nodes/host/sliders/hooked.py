"""Sliders as forward hooks: strengths for each entry of every forward pass.

Strengths that differ within a batch travel with the conditionings (run/travelling.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..page.progress import stop_if_cancelled
from ..run.patches import OfOneRun
from ..run.travelling import arrived, with_strengths
from .acting import Acting, ActingSlider, acting_at, register
from .layer_hooks import LayerHooks

ADVICE = "set apply_to to both, and sample each strength of a sweep in a run of its own with Slider LoRA Loader"


class HookedSliders(OfOneRun):
    """Sets the strengths of forward hooks for each entry of every forward pass.

    at_once: attach the hooks when sampling begins, not only when `attach` is called.
    """

    def __init__(self, guider: Any, sliders: Sequence[ActingSlider], at_once: bool):
        self.guider, self.sliders, self.at_once = guider, sliders, at_once
        self.attached = False
        self.alike = not any(len(s.strengths) > 1 or s.positive_only for s in sliders)
        self._hooks = LayerHooks()
        self._networks: list[torch.nn.Module] = []
        self._rows: dict[Any, Tensor] = {}

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
        if not self.alike:
            for name, conds in guider.conds.items():
                strengths = self._strengths(name == "positive").to(guider.model_patcher.load_device)
                for cond in conds:
                    cond.update(with_strengths(cond, strengths))
        try:
            if self.at_once:
                self.attach()
            return executor(guider, sigmas, extra_args, *args, **kwargs)
        finally:
            self._hooks.remove()

    def _strengths(self, positive: bool) -> Tensor:
        """[B or 1, K]: those of the K sliders for each picture of one conditioning."""
        pictures = max(len(slider.strengths) for slider in self.sliders)
        return torch.tensor([
            [s.strengths[i % len(s.strengths)] * (positive or not s.positive_only) for s in self.sliders]
            for i in range(pictures)
        ])  # fmt: skip

    def _apply_model(
        self, executor: Any, x: Tensor, t: Tensor, c_concat: Any = None, c_crossattn: Any = None, control: Any = None,
        transformer_options: dict | None = None, **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        stop_if_cancelled()  # samplers look at each of their steps only
        options = transformer_options or {}
        travelled = arrived(kwargs)
        strengths = self._hooks.strengths.get(id(executor.class_obj))
        if strengths is None:
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
        strengths.value = self._of_entries(float(t.flatten()[0]), x, travelled)
        try:
            result = executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
        finally:
            strengths.value = None
        self._hooks.check_called(executor.class_obj)
        return result

    def _of_entries(self, sigma: float, x: Tensor, travelled: Tensor | None) -> Tensor | None:
        """Strengths [N, K] of the N entries of this forward pass, [1, K] if they agree, None if no slider acts."""
        acting = acting_at(self.sliders, sigma)
        if not any(acting):
            return None
        if self.alike:
            return self._row(acting, x.device, [slider.strengths[0] for slider in self.sliders])
        if travelled is None or len(travelled) != len(x):
            found = "none" if travelled is None else f"those of {len(travelled)}"
            raise ValueError(
                f"another node evaluates the model for {len(x)} entries without the strengths that a sweep, or a "
                f"slider of the positive only, puts beside each conditioning ({found} came with them): {ADVICE}"
            )
        return travelled.to(x.device, torch.float32) * self._row(acting, x.device, [1.0] * len(acting))

    def _row(self, acting: Acting, device: torch.device, strengths: list[float]) -> Tensor:
        """[1, K]: strengths, 0 for the sliders that do not act; made once, so that no step has to wait for it."""
        key = (acting, device)
        if key not in self._rows:
            row = [strength * acts for strength, acts in zip(strengths, acting, strict=True)]
            self._rows[key] = torch.tensor([row], device=device)
        return self._rows[key]
