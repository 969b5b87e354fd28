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
def test_with_a_count_only_a_rows_own_elements_matter(counts, q, seed):
    values = torch.randn(len(counts), 30, generator=torch.Generator().manual_seed(seed)).abs()
    padded = values.clone()
    for row, count in enumerate(counts):
        padded[row, count:] = math.inf
    found = sample_quantile(padded, torch.tensor(q, dtype=torch.float64), torch.tensor(counts))
    expected = [np.quantile(values[row, :count].double().numpy(), q) for row, count in enumerate(counts)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-6, atol=1e-7)


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
