"""A guider with a clock: seconds of every evaluation, and of every rewriting of the model's weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.samplers
import torch
from torch import Tensor


def now() -> float:
    """Seconds, after everything that was given to the device is done. On a CPU those of this process (one thread, see
    `machine.prepare`), so that they are what an idle machine would take."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


@dataclass
class Timing:
    """One run in seconds. start: writing of weights before the first evaluation; steps: each evaluation without the
    writing of weights in it, which is writes; total: the whole run."""

    start: float = 0.0
    steps: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)
    total: float = 0.0


class _Written:
    """The seconds that the host's functions which write weights have taken so far."""

    seconds, depth = 0.0, 0

    def timed(self, function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.depth += 1
            started = now()
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1
                if not self.depth:  # one of them calls the other
                    self.seconds += now() - started

        return call


@contextmanager
def _watched() -> Iterator[_Written]:
    """Weights are written where models are loaded, and by ComfyUI's hooks on conditionings in patch_hooks."""
    written = _Written()
    management: Any = comfy.model_management
    patcher: Any = comfy.model_patcher.ModelPatcher
    load, patch = management.load_models_gpu, patcher.patch_hooks
    management.load_models_gpu, patcher.patch_hooks = written.timed(load), written.timed(patch)
    try:
        yield written
    finally:
        management.load_models_gpu, patcher.patch_hooks = load, patch


class _TimedGuider(comfy.samplers.CFGGuider):
    """Samplers call the guider once for an evaluation of the model."""

    def __init__(self, model: Any, timing: Timing, written: _Written):
        super().__init__(model)
        self.timing, self.written = timing, written

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        before, started = self.written.seconds, now()
        if not self.timing.steps:
            self.timing.start = before
        result = super().__call__(*args, **kwargs)
        spent, writing = now() - started, self.written.seconds - before
        self.timing.steps.append(spent - writing)
        self.timing.writes.append(writing)
        return result


def timed_run(model: Any, conds: list[list], noise: Tensor, sigmas: Tensor) -> tuple[Tensor, Timing]:
    """One Euler run at cfg 1, one evaluation a step. conds: positive and negative."""
    timing = Timing()
    with _watched() as written:
        guider = _TimedGuider(model, timing, written)
        guider.set_conds(*conds)
        guider.set_cfg(1.0)
        sampler = comfy.samplers.sampler_object("euler")
        started = now()
        result = guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True, seed=0)
        timing.total = now() - started
    return result, timing
