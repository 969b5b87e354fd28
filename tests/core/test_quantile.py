"""The threshold's quantile is numpy's, at every size."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guidance_core import sample_quantile


@settings(max_examples=200)
@given(
    n=st.integers(1, 60),
    rows=st.integers(1, 4),
    q=st.floats(0, 1),
    ties=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_numpys_quantile(n, rows, q, ties, seed):
    values = torch.randn(rows, n, generator=torch.Generator().manual_seed(seed)).abs()
    if ties:
        values = values.round(decimals=0)
    expected = np.quantile(values.double().numpy(), q, axis=1)
    found = sample_quantile(values, torch.tensor(q, dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-6, atol=1e-7)


@settings(max_examples=100)
@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=5), q=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_only_a_rows_own_elements_matter(counts, q, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(len(counts), 30, generator=generator).abs()
    inside = torch.stack([torch.randperm(30, generator=generator) < count for count in counts])
    found = sample_quantile(values, torch.tensor(q, dtype=torch.float64), inside)
    expected = [np.quantile(values[row, own].double().numpy(), q) for row, own in enumerate(inside)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-6, atol=1e-7)


@settings(max_examples=100)
@given(share=st.integers(1, 120), of=st.integers(1, 120), ulps=st.integers(-2, 2))
def test_a_part_of_a_row_needs_no_more_of_its_end_than_the_whole(share, of, ulps):
    """However the ranks round: a threshold that falls on a rank of a part, or next to it."""
    q = min(share, of) / max(share, of)
    for _ in range(abs(ulps)):
        q = min(1.0, max(0.0, math.nextafter(q, 2.0 * (ulps > 0))))
    values = torch.arange(1.0, 122.0).expand(121, 121)
    inside = torch.arange(121) <= torch.arange(121)[:, None]  # rows of 1 to 121 elements
    found = sample_quantile(values, torch.tensor(q, dtype=torch.float64), inside)
    expected = 1 + q * torch.arange(121, dtype=torch.float64)
    torch.testing.assert_close(found, expected.float(), rtol=1e-6, atol=0)


@settings(max_examples=100)
@given(n=st.integers(1, 300), q=st.lists(st.floats(0, 1), min_size=3, max_size=3), seed=st.integers(0, 2**32 - 1))
def test_selecting_gives_the_bits_of_sorting(n, q, seed):
    values = torch.randn(3, 2, n, generator=torch.Generator().manual_seed(seed)).abs()
    ranks = torch.tensor(q, dtype=torch.float64).reshape(3, 1) * (n - 1)
    lower, weights = ranks.floor().long(), (ranks - ranks.floor()).float()
    ordered = values.sort(-1).values
    low, high = (ordered.gather(-1, at.expand(3, 2)[..., None])[..., 0] for at in (lower, (lower + 1).clamp_max(n - 1)))
    found = sample_quantile(values, torch.tensor(q, dtype=torch.float64).reshape(3, 1))
    assert torch.equal(found, torch.lerp(low, high, weights))


def test_each_row_has_its_own_rank():
    values = torch.arange(11.0).expand(3, 2, 11)
    q = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64).reshape(3, 1)
    assert sample_quantile(values, q).tolist() == [[0, 0], [5, 5], [10, 10]]


def test_the_rank_is_not_rounded_to_float32():
    # q·(N − 1) = 9 in float64 and 8.9999998 with a q that went through float32: the element at 9 itself must come out
    values = torch.arange(11.0)
    assert sample_quantile(values, torch.tensor(0.9, dtype=torch.float64)).item() == 9.0


@pytest.mark.slow
def test_it_is_exact_beyond_16_million_elements():
    n, rank = 17_000_001, 16_830_000  # rank = 0.99·(n − 1), above float32's 2²⁴
    one = 0x3F800000  # 1.0 as bits; the next n floats are all distinct and ascending
    ordered = torch.arange(one, one + n, dtype=torch.int32).view(torch.float32)
    values = ordered.flip(0).roll(12345)
    with pytest.raises(RuntimeError, match="too large"):  # why the pack has its own
        torch.quantile(values, 0.99)
    found = sample_quantile(values[None], torch.tensor(0.99, dtype=torch.float64))
    assert found.item() == ordered[rank].item()
    assert found.item() == np.float32(np.quantile(values.double().numpy(), 0.99))
    assert (values >= found).sum().item() == n - rank
