"""Held directions against a plain list: which step's direction is used when."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guidance_core import HeldDirections


def direction(i: int, step: int) -> torch.Tensor:
    return torch.tensor([float(i), float(step)])


def walk(every: int, steps: list[int], concepts: list[list[int]]) -> tuple[list[dict[int, int]], int]:
    """For each evaluation the step whose direction each concept has, and how many directions were evaluated."""
    held, seen, cost = HeldDirections(every), [], 0
    for step, wanted in zip(steps, concepts, strict=True):
        stale = held.stale(wanted, step)
        cost += len(stale)
        found = held.completed({i: direction(i, step) for i in stale}, wanted, step)
        assert list(found) == wanted  # in the order that was asked for: sums must not depend on what is held
        assert all(float(value[0]) == i for i, value in found.items())
        seen.append({i: int(value[1]) for i, value in found.items()})
    return seen, cost


@given(st.integers(2, 5), st.integers(1, 12))
def test_a_direction_is_used_for_n_steps(every, steps):
    seen, cost = walk(every, list(range(steps)), [[0, 1]] * steps)
    assert seen == [{0: step - step % every, 1: step - step % every} for step in range(steps)]
    assert cost == 2 * -(-steps // every)


def test_at_1_every_evaluation_is_new_also_within_a_step():
    seen, cost = walk(1, [0, 1, 1, 2], [[0]] * 4)
    assert seen == [{0: 0}, {0: 1}, {0: 1}, {0: 2}]
    assert cost == 4


def test_within_a_step_the_direction_is_held():
    assert walk(2, [0, 0, 1, 1, 2], [[0]] * 5) == ([{0: 0}, {0: 0}, {0: 0}, {0: 0}, {0: 2}], 2)


def test_a_concept_is_evaluated_when_its_window_opens_and_forgotten_when_it_closes():
    seen, cost = walk(3, [0, 1, 2, 3, 4, 5], [[0], [0, 1], [0, 1], [0, 1], [1], [0, 1]])
    assert seen == [{0: 0}, {0: 0, 1: 1}, {0: 0, 1: 1}, {0: 3, 1: 1}, {1: 4}, {0: 5, 1: 4}]
    assert cost == 5


def test_going_back_to_a_noisier_step_needs_new_directions():
    assert walk(4, [0, 3, 1, 2], [[0]] * 4)[0] == [{0: 0}, {0: 0}, {0: 1}, {0: 1}]
    assert walk(4, [3, 1], [[0]] * 2)[0] == [{0: 3}, {0: 1}]


def test_a_direction_is_dropped_with_its_concept_also_at_an_evaluation_without_any():
    held = HeldDirections(5)
    held.completed({0: direction(0, 0)}, [0], 0)
    assert held.stale([0], 1) == []
    assert held.stale([], 2) == []
    assert held.stale([0], 3) == [0]


@pytest.mark.parametrize("every", [0, -1, float("nan")])
def test_less_than_every_step_is_refused(every):
    with pytest.raises(ValueError, match="refresh"):
        HeldDirections(every)
