"""An edit's ratio and its share of the picture, against slow sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guidance_core import EditMeasure
from guidance_core.measure import MOST


def slow_share(energy: np.ndarray) -> float:
    """The fewest cells that together hold nine tenths, as a share; cells are taken one by one."""
    left, taken = MOST * energy.sum(), 0
    for value in sorted(energy.flatten(), reverse=True):
        if left <= 1e-12:
            break
        left, taken = left - value, taken + 1
    return taken / energy.size


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4), st.sampled_from([(5, 6), (2, 4, 3)]),
    st.integers(1, 3),
)  # fmt: skip
def test_sizes_are_the_sums_by_hand(seed, batch, channels, space, steps):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, *space)
    measure, edits, references = EditMeasure(), [], []
    for _ in range(steps):
        edits.append(torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) > 0.7))
        references.append(torch.randn(shape, generator=generator))
        measure.add({3: edits[-1]}, references[-1])
    size = measure.sizes()[3]
    energy = sum(edit.double().square().sum(1) for edit in edits).numpy()
    whole = sum(float(reference.double().square().sum()) for reference in references)
    assert size.ratio == pytest.approx(np.sqrt(energy.sum() / whole), rel=1e-4)
    cells = np.prod(space)
    assert size.share == pytest.approx(np.mean([slow_share(row) for row in energy]), abs=1.01 / cells / batch)


def test_a_concept_is_compared_with_its_own_steps_only():
    measure = EditMeasure()
    one = torch.ones(1, 2, 3, 3)
    measure.add({0: one}, one)
    measure.add({0: one, 1: 0.5 * one}, 10 * one)
    sizes = measure.sizes()
    assert sizes[0].ratio == pytest.approx(np.sqrt(2 / 101))
    assert sizes[1].ratio == pytest.approx(0.05)


def test_one_cell_is_a_ninth():
    edit = torch.zeros(1, 2, 3, 3)
    edit[0, :, 1, 1] = -2.0
    measure = EditMeasure()
    measure.add({0: edit}, torch.ones_like(edit))
    assert measure.sizes()[0].share == pytest.approx(1 / 9)


def test_nothing_is_nothing():
    measure = EditMeasure()
    assert measure.sizes() == {}
    measure.add({0: torch.zeros(1, 2, 3, 3)}, torch.ones(1, 2, 3, 3))
    measure.add({1: torch.ones(1, 2, 3, 3)}, torch.zeros(1, 2, 3, 3))
    assert measure.sizes()[0].ratio == measure.sizes()[0].share == 0
    assert measure.sizes()[1].ratio == 0


def test_adding_a_step_reads_nothing_back():
    measure, zeros = EditMeasure(), torch.zeros(2, 4, 8, 8, device="meta")
    for _ in range(2):
        measure.add({0: zeros, 1: zeros}, zeros)  # reading a value of the meta device back is an error
