"""How far a picture moved along an edit and the edit's share of it, against slow sums by hand."""

from __future__ import annotations

import math

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


def slow_moved(way: np.ndarray, begin: np.ndarray, end: np.ndarray) -> float:
    """One picture's, element by element."""
    along = sum((e - b) * w for e, b, w in zip(end.flat, begin.flat, way.flat, strict=True))
    return along / math.sqrt(sum(w * w for w in way.flat)) / math.sqrt(sum(e * e for e in end.flat))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4), st.sampled_from([(5, 6), (2, 4, 3)]),
    st.integers(1, 3),
)  # fmt: skip
def test_sizes_are_the_sums_by_hand(seed, batch, channels, space, steps):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, *space)
    measure, edits, estimates = EditMeasure(), [], []
    lengths = [1.5 / (i + 1) for i in range(steps)]
    for length in lengths:
        edits.append(torch.randn(shape, generator=generator) * (torch.rand(shape, generator=generator) > 0.7))
        estimates.append((torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)))
        measure.add({3: edits[-1]}, length, *estimates[-1])
    size = measure.sizes()[3]
    cells = sum(edit.double().square().sum(1) for edit in edits).numpy()
    changed = [i for i in range(batch) if cells[i].any()]
    if not changed:
        assert size.share == 0
        return
    expected = np.mean([slow_share(cells[i]) for i in changed])
    assert size.share == pytest.approx(expected, abs=1.01 / np.prod(space) / len(changed))
    way = -sum(length * edit.double() for length, edit in zip(lengths, edits, strict=True)).numpy()
    begin, end = estimates[0][0].double().numpy(), estimates[-1][1].double().numpy()
    moved = [slow_moved(way[i], begin[i], end[i]) for i in changed]
    assert size.moved == pytest.approx(np.mean(moved), rel=1e-3, abs=1e-5)
    for i in changed:
        assert measure.moved()[3][i] == pytest.approx(moved[changed.index(i)], rel=1e-3, abs=1e-5)


def test_an_edit_that_is_taken_over_as_it_is():
    """The estimate goes exactly the way of the edit: moved is that way's length beside the picture."""
    edit, picture = torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3)
    edit[0, :, 1, 1] = -2.0
    measure = EditMeasure()
    measure.add({0: edit}, 0.5, picture, picture + 1.0 * (edit < 0))
    end = picture + (edit < 0)
    assert measure.sizes()[0].moved == pytest.approx(math.sqrt(2) / float(end.norm()))
    assert measure.sizes()[0].share == pytest.approx(1 / 9)


def test_what_comes_back_has_not_moved_and_what_goes_the_other_way_is_below_nothing():
    picture = torch.ones(1, 2, 3, 3)
    for end, sign in ((picture, 0), (2 * picture, -1), (0.5 * picture, 1)):
        measure = EditMeasure()
        measure.add({0: picture}, 1.0, picture, end)  # γ takes away
        assert np.sign(measure.sizes()[0].moved) == sign


def test_a_concept_begins_with_its_own_first_step_and_ends_with_the_run():
    one, measure = torch.ones(1, 2, 3, 3), EditMeasure()
    measure.add({0: -one}, 1.0, one, 2 * one)
    measure.add({0: -one, 1: -one}, 1.0, 3 * one, 4 * one)
    measure.add({}, 1.0, 4 * one, 5 * one)
    sizes = measure.sizes()
    assert sizes[0].moved == pytest.approx((5 - 1) / 5)
    assert sizes[1].moved == pytest.approx((5 - 3) / 5)


def test_cells_that_hold_exactly_nine_tenths_are_all_of_the_edit():
    """Nine of ten equal cells: the tenth adds nothing to what has to be held."""
    edit, measure = torch.ones(1, 1, 2, 5), EditMeasure()
    measure.add({0: edit}, 1.0, edit, edit)
    assert measure.sizes()[0].share == pytest.approx(0.9)


def test_nothing_is_nothing():
    measure, one = EditMeasure(), torch.ones(1, 2, 3, 3)
    assert measure.sizes() == {}
    measure.add({}, 1.0, one, one)
    assert measure.sizes() == {}
    measure.add({0: 0 * one}, 1.0, one, one)
    assert measure.sizes()[0].share == 0
    assert measure.sizes()[0].moved == 0


@pytest.mark.parametrize("end", [0.0, float("inf"), float("nan")])
def test_a_picture_that_is_none_gives_no_number(end):
    measure, one = EditMeasure(), torch.ones(1, 2, 3, 3)
    measure.add({0: one}, 1.0, one, end * one)
    assert measure.sizes()[0].moved is None
    assert measure.sizes()[0].share == 1


def test_values_that_are_no_numbers_are_told():
    measure, one = EditMeasure(), torch.ones(1, 2, 3, 3)
    measure.add({0: float("nan") * one}, 1.0, one, one)
    assert math.isnan(measure.sizes()[0].share)


def test_pictures_without_an_edit_do_not_count():
    """As in a sweep with a scale of 0 among others."""
    edit, alone = torch.zeros(2, 2, 3, 3), EditMeasure()
    edit[1, :, 0, :2] = 3.0
    generator = torch.Generator().manual_seed(0)
    both, before, after = EditMeasure(), *(torch.rand(2, 2, 3, 3, generator=generator) for _ in range(2))
    both.add({0: edit}, 0.7, before, after)
    alone.add({0: edit[1:]}, 0.7, before[1:], after[1:])
    assert both.sizes()[0] == alone.sizes()[0]


def test_adding_a_step_reads_nothing_back():
    measure, zeros = EditMeasure(), torch.zeros(2, 4, 8, 8, device="meta")
    for _ in range(2):
        measure.add({0: zeros, 1: zeros}, 1.0, zeros, zeros)  # reading a value of the meta device back is an error
