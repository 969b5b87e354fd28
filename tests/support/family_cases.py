"""The families of docs/compatibility.md, each with what several tests need of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import edit_runs
import pytest
import tiny_models
import torch
from edit_runs import Inverted
from family_models import Family, Row

from nodes import common_ksampler

STEPS, SCHEDULER = 2, "sgm_uniform"  # two levels, of which the second lies inside a slider's default window
ROUND_TRIP = 70.0  # dB
SCALE, STRENGTH = 10.0, 6.0
VISIBLE = 0.01
LARGEST = 16.0  # GB
# What the network is given that comes from a prompt's text, by the names that the families use.
TEXT = {"y", "num_tokens"}


@dataclass
class Case:
    """A family with what several tests need of it."""

    row: Row
    family: Family

    def __post_init__(self):
        self.state = tiny_models.state_of(self.family.model)

    def generate(self, model: Any, positive: list | None = None, negative: list | None = None) -> torch.Tensor:
        """KSampler."""
        family = self.family
        latent = {"samples": torch.zeros(1, *family.shape)}
        positive, negative = positive or family.positive, negative or family.negative
        (found,) = common_ksampler(model, 7, STEPS, family.cfg, "euler", SCHEDULER, positive, negative, latent)
        return found["samples"]

    @cached_property
    def plain(self) -> torch.Tensor:
        """The picture without any of the pack's nodes."""
        return self.generate(self.family.model)

    @cached_property
    def picture(self) -> torch.Tensor:
        return self.family.noise(seed=5)

    @cached_property
    def inverted(self) -> Inverted:
        return edit_runs.invert(self.family.model, self.family.positive, self.picture, steps=6, denoise=0.34)

    @property
    def conds(self) -> int:
        """Conditionings a step of a steered run: positive, negative where there is a guidance, and the concept."""
        return 2 if self.family.cfg == 1 else 3


PROCESS = Path("/proc/self")  # Linux only


def forget_peak() -> None:
    """From now on the peak is that of what follows."""
    if (PROCESS / "clear_refs").exists():
        (PROCESS / "clear_refs").write_text("5")


def peak_memory() -> float | None:
    """The largest resident set of this process in GB, weights that are mapped from a file included."""
    if not (PROCESS / "status").exists():
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", (PROCESS / "status").read_text())
    return int(found[1]) * 1024 / 1e9 if found else None


def marks(row: Row) -> list:
    compat = pytest.mark.compat(row=row.title, made=row.made)
    return [compat, pytest.mark.full_size, pytest.mark.slow] if row.full_size else [compat]
