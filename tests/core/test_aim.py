"""The scale that gives an edit a wanted size: the edited estimate has it, within the bounds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guidance_core import own_size, scale_for


def drawn(seed: int, *, batch: int = 3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 4, 5, 6, generator=generator) for _ in range(3)]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.01, 3.0), st.floats(0.05, 10.0))
def test_the_edited_estimate_has_the_wanted_size(seed, aim, sigma):
    edit, estimate, begin = drawn(seed)
    scale = scale_for(aim, edit, sigma, estimate, begin, 1e6)
    for i in range(len(edit)):
        edited = (estimate[i] - sigma * scale[i] * edit[i]).double()
        gone = float(((begin[i] - edited) * edit[i]).sum() / edit[i].double().norm() / estimate[i].double().norm())
        assert gone == pytest.approx(aim, rel=1e-3, abs=1e-3) or (scale[i] == 0 and gone > aim)


def test_it_stays_within_its_bounds():
    edit, estimate, begin = drawn(1)
    assert (scale_for(100.0, edit, 0.1, estimate, begin, 20.0) == 20.0).all()
    assert (scale_for(0.0, edit, 0.1, begin + -5 * edit, begin, 20.0) == 0.0).all()  # it is there already


def test_nothing_to_add_gets_nothing():
    edit, estimate, begin = drawn(2)
    assert (scale_for(0.3, 0 * edit, 0.5, estimate, begin, 20.0) == 0.0).all()


def test_each_picture_has_its_own():
    edit, estimate, begin = drawn(3)
    aims = torch.tensor([0.1, 0.2, 0.3])
    together = scale_for(aims, edit, 0.5, estimate, begin, 20.0)
    for i, aim in enumerate(aims.tolist()):
        alone = scale_for(aim, edit[i : i + 1], 0.5, estimate[i : i + 1], begin[i : i + 1], 20.0)
        assert float(alone) == pytest.approx(float(together[i]))


def test_the_own_size_is_what_the_edit_makes_of_the_estimate():
    edit, estimate, _ = drawn(4, batch=1)
    edited = estimate - 0.7 * edit
    assert float(own_size(edit, 0.7, estimate)) == pytest.approx(float((edited - estimate).norm() / estimate.norm()))
