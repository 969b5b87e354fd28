"""Which sampler step an evaluation belongs to, and when that step is over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....guidance_core import step_of


class StepClock:
    """Calls `commit` exactly once for each sampler step.

    Samplers differ in how often they evaluate the model in a step, but the evaluation at the step's own level is
    always the last one before the step's callback (not so in dpm_adaptive, beside which momentum is refused). For
    samplers that never call back, a step is over when the next evaluation's σ belongs to a later one.

    levels: the run's σ schedule. Steps are found by σ, never by counting evaluations.
    """

    def __init__(self, levels: list[float], commit: Callable[[], None]):
        self.levels, self._commit = levels, commit
        self._step: int | None = None
        self._called_back = False

    def step_of(self, sigma: float) -> int:
        """The last step that starts at or above σ (0 for a σ above the whole schedule)."""
        return step_of(self.levels, sigma) or 0

    def length(self, step: int) -> float:
        """σ_t − σ_{t+1} of a step; 0 for the level at the schedule's end."""
        return self.levels[step] - self.levels[min(step + 1, len(self.levels) - 1)]

    def evaluate(self, sigma: float) -> int:
        """The model is about to be evaluated at σ; the step that this belongs to."""
        step = self.step_of(sigma)
        if not self._called_back and self._step is not None and step > self._step:
            self._commit()
        self._step = step
        return step

    def wrap(self, callback: Callable[..., Any] | None) -> Callable[..., Any]:
        """The step callback that commits, then calls the one it was given."""

        def commit_and_call(*args: Any, **kwargs: Any) -> Any:
            self._called_back = True
            self._commit()
            return None if callback is None else callback(*args, **kwargs)

        return commit_and_call

    def finish(self) -> None:
        """The run is over: the last step of a sampler that never calls back."""
        if not self._called_back:
            self._commit()
