"""Training that can be stopped at any moment: the state is written every few minutes and found again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from ..files import whole

SAVE_EVERY = 150.0  # seconds


class TrainingState:
    """Saves and restores everything with a state_dict, plus the step and the random state."""

    def __init__(self, file: Path, **parts: Any):
        self.file, self.parts = file, parts
        self.saved_at = time.monotonic()

    def load(self) -> int:
        """Restore the last state; returns the step to go on from (0 if there is none)."""
        if not self.file.exists():
            return 0
        state = torch.load(self.file, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["rng"])
        return state["step"]

    def save(self, step: int) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        state = {name: part.state_dict() for name, part in self.parts.items()}
        with whole(self.file) as part:
            torch.save({**state, "step": step, "rng": torch.get_rng_state()}, part)
        self.saved_at = time.monotonic()

    def save_sometimes(self, step: int) -> None:
        if time.monotonic() - self.saved_at > SAVE_EVERY:
            self.save(step)


def cosine_schedule(step: int, steps: int, warm_up: int) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to 2 %."""
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return 0.02 + 0.98 * 0.5 * (1 + float(torch.cos(torch.tensor(progress * torch.pi))))
