"""The low-rank sum against the weights it stands for, and the edges of windows against a walk over all levels."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from guidance_core import LowRank, SigmaWindow, concatenate, edges_crossed, fuse_middle, low_rank_sum


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def difference(part: LowRank, features: int) -> torch.Tensor:
    """ΔW of one slider, element by element from the definition."""
    kernel = part.down.shape[2:]
    delta = torch.zeros(features, part.down.shape[1], *kernel, dtype=torch.float64)
    for o, i in itertools.product(range(part.up.shape[0]), range(part.down.shape[1])):
        for r in range(part.down.shape[0]):
            delta[part.start + o, i] += part.factor * part.up[o, r] * part.down[r, i]
    return delta


@pytest.mark.parametrize("shape", [(2, 5), (2, 7, 5), (2, 3, 4, 5)])
def test_a_linear_layers_sum_is_the_sum_of_weight_differences(shape):
    parts = [
        LowRank(random(6, 2, seed=1), random(2, 5, seed=2), 0.5),
        LowRank(random(3, 4, seed=3), random(4, 5, seed=4), 2.0, start=2),
    ]
    x, strengths = random(*shape, seed=5), (1.5, -0.7)
    down, up = concatenate(parts, 6)
    columns = torch.tensor([0, 0, 1, 1, 1, 1])
    found = low_rank_sum(x, down, up, torch.tensor([strengths], dtype=torch.float64)[:, columns])
    weight = sum(s * difference(part, 6) for s, part in zip(strengths, parts, strict=True))
    torch.testing.assert_close(found, F.linear(x, weight))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_convolutions_sum_is_the_sum_of_weight_differences(dimensions):
    kernel, size = (3,) * dimensions, (6,) * dimensions
    parts = [LowRank(random(4, 2, seed=i), random(2, 3, *kernel, seed=10 + i), 0.5 + i) for i in range(3)]
    x, strengths = random(2, 3, *size, seed=5), (1.5, -0.7, 0.2)
    down, up = concatenate(parts, 4)
    columns = torch.tensor([0, 0, 1, 1, 2, 2])
    options = {"stride": 2, "padding": 1, "dilation": 1}
    found = low_rank_sum(x, down, up, torch.tensor([strengths], dtype=torch.float64)[:, columns], **options)
    weight = sum(s * difference(part, 4) for s, part in zip(strengths, parts, strict=True))
    convolve = (F.conv1d, F.conv2d, F.conv3d)[dimensions - 1]
    torch.testing.assert_close(found, convolve(x, weight, **options))


def test_each_entry_of_a_batch_has_its_own_strength():
    part = LowRank(random(6, 2, seed=1), random(2, 5, seed=2), 0.5)
    x, down_up = random(3, 4, 5, seed=5), concatenate([part], 6)
    strengths = torch.tensor([[-2.0], [0.0], [1.0]], dtype=torch.float64).expand(3, 2)
    together = low_rank_sum(x, *down_up, strengths)
    alone = torch.cat([low_rank_sum(x[i : i + 1], *down_up, strengths[i : i + 1]) for i in range(3)])
    assert torch.equal(together[1], torch.zeros(4, 6, dtype=torch.float64))
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together[0], -2 * low_rank_sum(x[:1], *down_up, torch.ones(1, 2).double())[0])


def test_a_middle_factor_is_the_chain_of_three_convolutions():
    down, middle, up = random(3, 5, 1, 1, seed=1), random(3, 3, 3, 3, seed=2), random(4, 3, 1, 1, seed=3)
    x = random(2, 5, 6, 6, seed=4)
    chain = F.conv2d(F.conv2d(F.conv2d(x, down), middle, padding=1), up)
    fused = fuse_middle(down, middle)
    found = low_rank_sum(x, *concatenate([LowRank(up.flatten(1), fused, 1.0)], 4), torch.ones(1, 3).double(), padding=1)
    torch.testing.assert_close(found, chain)


levels = st.lists(st.integers(1, 60), min_size=2, max_size=20, unique=True).map(lambda some: sorted(some, reverse=True))
windows = st.lists(
    st.tuples(st.integers(0, 61), st.integers(0, 61)).map(lambda w: SigmaWindow(max(w), min(w))), max_size=5
)


@given(levels, windows)
def test_edges_are_where_a_walk_over_all_levels_sees_a_change(some, given_windows):
    """Every σ between the first and the last level, closely spaced."""
    first, last = float(some[0]), float(some[-1])
    walk = [first - (first - last) * i / 1000 for i in range(1001)]
    seen = set()
    for window in given_windows:
        for one, following in itertools.pairwise(walk):
            a, b = window.phase(one).value, window.phase(following).value
            if a == "before" and b != "before":
                seen.add(window.start)
            if a != "after" and b == "after":
                seen.add(window.end)
    assert edges_crossed(given_windows, first, last) == seen


def test_windows_that_share_an_edge_count_once():
    shared = [SigmaWindow(5.0, 0.0), SigmaWindow(5.0, 2.0), SigmaWindow(math.inf, 2.0)]
    assert edges_crossed(shared, 10.0, 1.0) == {5.0, 2.0}
    assert edges_crossed(shared, 4.0, 3.0) == set()
    assert edges_crossed([], 4.0, 3.0) == set()
