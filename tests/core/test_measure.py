"""An edit's ratio and its share of the picture, against slow sums by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guidance_core import EditMeasure, energy
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
        measure.add({3: edits[-1]}, energy(references[-1]))
    size = measure.sizes()[3]
    cells = sum(edit.double().square().sum(1) for edit in edits).numpy()
    changed = [i for i in range(batch) if cells[i].any()]
    if not changed:
        assert size.share == 0
        return
    whole = sum(float(reference[changed].double().square().sum()) for reference in references)
    assert size.ratio == pytest.approx(np.sqrt(cells.sum() / whole), rel=1e-4)
    expected = np.mean([slow_share(cells[i]) for i in changed])
    assert size.share == pytest.approx(expected, abs=1.01 / np.prod(space) / len(changed))


def test_a_concept_is_compared_with_its_own_steps_only():
    measure = EditMeasure()
    one = torch.ones(1, 2, 3, 3)
    measure.add({0: one}, energy(one))
    measure.add({0: one, 1: 0.5 * one}, energy(10 * one))
    sizes = measure.sizes()
    assert sizes[0].ratio == pytest.approx(np.sqrt(2 / 101))
    assert sizes[1].ratio == pytest.approx(0.05)


def test_one_cell_is_a_ninth():
    edit = torch.zeros(1, 2, 3, 3)
    edit[0, :, 1, 1] = -2.0
    measure = EditMeasure()
    measure.add({0: edit}, energy(torch.ones_like(edit)))
    assert measure.sizes()[0].share == pytest.approx(1 / 9)


def test_cells_that_hold_exactly_nine_tenths_are_all_of_the_edit():
    """Nine of ten equal cells: the tenth adds nothing to what has to be held."""
    edit, measure = torch.ones(1, 1, 2, 5), EditMeasure()
    measure.add({0: edit}, energy(edit))
    assert measure.sizes()[0].share == pytest.approx(0.9)


@pytest.mark.parametrize(("edit", "ratio"), [(99.0, 99.0), (100.0, 100.0), (101.0, None)])
def test_an_edit_of_more_than_a_hundred_times_its_reference_is_compared_with_rounding(edit, ratio):
    measure, one = EditMeasure(), torch.ones(1, 2, 4, 4)
    measure.add({0: edit * one}, energy(one))
    assert measure.sizes()[0].ratio == ratio


def test_nothing_is_nothing():
    measure, one = EditMeasure(), torch.ones(1, 2, 3, 3)
    assert measure.sizes() == {}
    measure.add({0: 0 * one}, energy(one))
    assert measure.sizes()[0].ratio is None
    assert measure.sizes()[0].share == 0


@pytest.mark.parametrize("reference", [0.0, 1e-6, float("inf"), float("nan")])
def test_what_it_cannot_be_compared_with_gives_no_ratio(reference):
    measure, one = EditMeasure(), torch.ones(1, 2, 3, 3)
    measure.add({0: one}, energy(reference * one))
    size = measure.sizes()[0]
    assert size.ratio is None or (reference == float("inf") and size.ratio == 0)
    assert size.share == 1


def test_values_that_are_no_numbers_are_told():
    measure, one = EditMeasure(), torch.ones(1, 2, 3, 3)
    measure.add({0: float("nan") * one}, energy(one))
    assert math.isnan(measure.sizes()[0].share)


def test_pictures_without_an_edit_do_not_count():
    """As in a sweep with a scale of 0 among others."""
    edit, alone = torch.zeros(2, 2, 3, 3), EditMeasure()
    edit[1, :, 0, :2] = 3.0
    both, reference = EditMeasure(), torch.rand(2, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    both.add({0: edit}, energy(reference))
    alone.add({0: edit[1:]}, energy(reference[1:]))
    assert both.sizes()[0] == alone.sizes()[0]


def test_adding_a_step_reads_nothing_back():
    measure, zeros = EditMeasure(), torch.zeros(2, 4, 8, 8, device="meta")
    for _ in range(2):
        measure.add({0: zeros, 1: zeros}, energy(zeros))  # reading a value of the meta device back is an error
