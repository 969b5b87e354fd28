"""Ways to do the same job, run in turn: whatever else the machine does hits all alike."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor

from .timing import now

T = TypeVar("T")


@dataclass
class Way:
    """One way to do a job. run: does it once; network: the one that does the work, whose evaluations are counted."""

    run: Callable[[], Any]
    network: torch.nn.Module
    seconds: list[float] = field(default_factory=list)
    entries: int = 0  # of all batches that went through the network in one run
    result: Any = None


def turns(ways: Sequence[T], rounds: int, warm_up: int, label: str) -> Iterator[tuple[T, bool]]:
    """Every way once a round, there and back, and whether the round counts."""
    for turn in range(-warm_up, rounds):
        sys.stderr.write(f"{label}: {'warming up' if turn < 0 else f'round {turn + 1} of {rounds}'}\n")
        for way in ways if turn % 2 else reversed(ways):
            yield way, turn >= 0


def measure(ways: Sequence[Way], rounds: int, warm_up: int, label: str) -> None:
    """Run all ways; their seconds, entries and last results stay in them."""
    entries: list[int] = []
    hooks = [
        network.register_forward_pre_hook(lambda _, args: entries.append(len(args[0])))
        for network in {id(way.network): way.network for way in ways}.values()
    ]
    for way, counts in turns(ways, rounds, warm_up, label):
        entries.clear()
        started = now()
        way.result = way.run()
        spent = now() - started
        way.entries = sum(entries)
        if counts:
            way.seconds.append(spent)
    for hook in hooks:
        hook.remove()


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """Of seconds, taken round by round."""
    return median(a / b for a, b in zip(one, other, strict=True))


def difference(found: Tensor, expected: Tensor) -> float:
    """How far two results are apart, relative to their size."""
    expected = expected.to(found.device).float()
    return float((found.float() - expected).norm() / expected.norm())
