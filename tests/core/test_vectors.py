"""Vectors over σ: recorded rows come back bit for bit, what lies between is linear, sizes are interpolated."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guidance_core import at_sigma, resized

SIGMAS = (14.0, 9.0, 4.0, 0.5)


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(len(SIGMAS), *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("i", range(len(SIGMAS)))
@pytest.mark.parametrize("rounding", [0.0, 5e-5, -5e-5])
def test_a_recorded_level_gives_its_row_bit_for_bit(i, rounding):
    gamma = rows(2, 4, 3, 3)
    found = at_sigma(gamma, SIGMAS, SIGMAS[i] * (1 + rounding))
    assert found is not None
    assert torch.equal(found, gamma[i])


@given(st.floats(0.51, 13.9))
def test_between_levels_a_vector_that_is_linear_in_sigma_is_met_exactly(sigma):
    field = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(2))
    gamma = torch.stack([3.0 + 0.5 * level * field for level in SIGMAS])
    found = at_sigma(gamma, SIGMAS, sigma)
    assert found is not None
    torch.testing.assert_close(found, 3.0 + 0.5 * sigma * field, rtol=1e-3, atol=1e-3)


def test_nothing_is_added_above_what_was_recorded_and_the_last_row_holds_below_it():
    gamma = rows(1, 4, 2, 2)
    assert at_sigma(gamma, SIGMAS, 14.1) is None
    found = at_sigma(gamma, SIGMAS, 0.01)
    assert found is not None
    assert torch.equal(found, gamma[-1])
    assert at_sigma(gamma[:0], (), 1.0) is None


@pytest.mark.parametrize(("sizes", "wanted"), [((6,), (9,)), ((6, 4), (3, 8)), ((3, 6, 4), (5, 6, 8))])
def test_resizing_keeps_what_is_constant_and_the_order_of_rows_and_channels(sizes, wanted):
    values = torch.arange(2 * 3 * 4, dtype=torch.float32).reshape(2, 3, 4)
    gamma = values.reshape(2, 3, 4, *[1] * len(sizes)).expand(2, 3, 4, *sizes)
    expected = values.reshape(2, 3, 4, *[1] * len(wanted)).expand(2, 3, 4, *wanted)
    torch.testing.assert_close(resized(gamma, wanted), expected, rtol=1e-6, atol=1e-6)


def test_a_ramp_stays_a_ramp_at_twice_the_size():
    ramp = torch.arange(8, dtype=torch.float32).expand(1, 1, 1, 8, 8)
    found = resized(ramp, (16, 16))[..., 1:-1]
    torch.testing.assert_close(found.diff(dim=-1), torch.full((1, 1, 1, 16, 13), 0.5))
