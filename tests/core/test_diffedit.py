"""The mask's formulas and the masked decode, against a slow independent reference and by their own properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import slow_diffedit as slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from guidance_core import (
    binarise,
    blur_mask,
    check_mask_settings,
    difference_map,
    grow_mask,
    heatmap,
    masked_decode,
    noise_difference,
)  # fmt: skip

CLOSE = 1e-5  # so near the threshold, rounding decides
SPACES = st.one_of(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spot(height: int, width: int) -> Tensor:
    """Strong in the upper left quarter, weak elsewhere: an edit that has a place."""
    weights = torch.full((height, width), 0.2)
    weights[: height // 2, : width // 2] = 2.0
    return weights


def array(tensor: Tensor) -> np.ndarray:
    return tensor.double().numpy()


@settings(max_examples=80)
@given(
    space=SPACES,
    batch=st.integers(1, 3),
    maps=st.integers(1, 4),
    channels=st.integers(1, 4),
    clamp=st.floats(0.1, 20),
    threshold=st.floats(0, 1),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 2**31),
)
def test_the_mask_is_the_slow_references(space, batch, maps, channels, clamp, threshold, dtype, seed):
    differences = (randn(maps * batch, channels, *space, seed=seed) ** 3).to(dtype)
    found = difference_map(differences, batch)
    expected = slow.difference_map(array(differences), batch)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(array(found), expected, rtol=1e-5, atol=1e-7)
    heat = heatmap(found, clamp)
    slow_heat = slow.heatmap(expected, clamp)
    np.testing.assert_allclose(array(heat), slow_heat, rtol=1e-5, atol=1e-6)
    assert heat.min() >= 0 and heat.max() <= 1
    clear = np.abs(slow_heat - threshold) > CLOSE
    mask = array(binarise(heat, threshold))
    np.testing.assert_array_equal(mask[clear], (slow_heat > threshold)[clear])
    if threshold < 1:  # the same said without a heat map; at 1 nothing is above the clamp
        np.testing.assert_array_equal(mask[clear], slow.mask(expected, clamp, threshold)[clear])


@settings(max_examples=60)
@given(
    values=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=30),
    clamp=st.floats(0.2, 10),
    threshold=st.floats(0.01, 0.99),
)
def test_a_cell_is_in_when_it_is_over_threshold_times_clamp_times_the_mean(values, clamp, threshold):
    m = torch.tensor(values).reshape(1, 1, -1)
    bound = threshold * clamp * float(m.double().mean())
    mask = binarise(heatmap(m, clamp), threshold)
    for value, inside in zip(m.flatten().tolist(), mask.flatten().tolist(), strict=True):
        if not math.isclose(value, bound, rel_tol=1e-5):
            assert inside == (value > bound)


@pytest.mark.parametrize(("cells", "found"), [(36, 0), (25, 0), (24, 0), (23, 23), (12, 12), (1, 1)])
def test_an_even_edit_of_two_thirds_of_the_picture_or_more_gives_an_empty_mask(cells, found):
    """At the defaults: the rule is m > 1.5 × mean, and such an edit's m is at most 1.5 × the mean."""
    m = torch.zeros(36)
    m[:cells] = 1.0
    assert binarise(heatmap(m.reshape(1, 6, 6), 3.0), 0.5).sum() == found


def test_a_lower_threshold_or_clamp_gives_a_mask_that_contains_the_other():
    m = randn(2, 8, 8, seed=1).abs()
    for low, high in itertools.pairwise([0.0, 0.2, 0.5, 0.8]):
        assert (binarise(heatmap(m, 3.0), low) >= binarise(heatmap(m, 3.0), high)).all()
    for low, high in itertools.pairwise([1.0, 2.0, 3.0, 5.0]):
        assert (binarise(heatmap(m, low), 0.5) >= binarise(heatmap(m, high), 0.5)).all()


def test_a_pictures_mask_does_not_depend_on_its_neighbours():
    """The neighbours' differences are a hundred times as large and a hundred times as small."""
    sizes = torch.tensor([1.0, 100.0, 0.01]).reshape(1, 3, 1, 1, 1)
    differences = randn(4, 3, 4, 6, 6, seed=2) * sizes * spot(6, 6)
    together = heatmap(difference_map(differences.flatten(0, 1), 3), 3.0)
    for b in range(3):
        alone = heatmap(difference_map(differences[:, b], 1), 3.0)
        torch.testing.assert_close(together[b : b + 1], alone, rtol=1e-6, atol=1e-7)
        assert torch.equal(binarise(together[b : b + 1], 0.5), binarise(alone, 0.5))
        assert binarise(alone, 0.5).any()


def test_the_size_of_the_differences_does_not_matter():
    differences = randn(6, 4, 6, 6, seed=3)
    one = heatmap(difference_map(differences, 2), 3.0)
    for factor in (1e-4, 7.5, 1e4):
        torch.testing.assert_close(heatmap(difference_map(factor * differences, 2), 3.0), one, rtol=1e-5, atol=1e-6)


def test_texts_that_mean_the_same_give_zeros():
    """One picture of the batch without any difference: 0/0 must not become NaN there."""
    differences = randn(4, 3, 5, 5, seed=4)
    differences[1::2] = 0.0
    heat = heatmap(difference_map(differences, 2), 3.0)
    assert heat.isfinite().all()
    assert heat[0].any() and not heat[1].any()
    assert not binarise(heat, 0.0)[1].any()


@pytest.mark.parametrize("cfg", [0.5, 3.0, 7.5, 30.0])
def test_guidance_with_a_common_negative_changes_no_mask(cfg):
    """n + cfg·(p − n) for both texts differs by cfg·(p₁ − p₂): the mean takes the factor out again."""
    source, negative, other = (randn(20, 4, 8, 8, seed=10 + i) for i in range(3))
    target = source + spot(8, 8) * randn(20, 4, 8, 8, seed=13)

    def heat(source_negative: Tensor, target_negative: Tensor, scale: float) -> Tensor:
        one = source_negative + scale * (source - source_negative)
        two = target_negative + scale * (target - target_negative)
        return heatmap(difference_map(two - one, 2), 3.0)

    plain = heatmap(difference_map(target - source, 2), 3.0)
    guided = heat(negative, negative, cfg)
    assert (guided - plain).abs().max() < 1e-5
    clear = (plain - 0.5).abs() > 1e-5
    assert torch.equal(binarise(guided, 0.5)[clear], binarise(plain, 0.5)[clear])
    assert binarise(plain, 0.5).any() and clear.float().mean() > 0.99
    assert (heat(negative, other, cfg) - plain).abs().max() > 0.01


def test_x0_noise_and_velocity_give_the_same_heat_map():
    """At one level they differ by a factor."""
    source, target, sigma = randn(6, 4, 6, 6, seed=20), randn(6, 4, 6, 6, seed=21), 1.7
    x = randn(6, 4, 6, 6, seed=22)
    estimates = noise_difference(x - sigma * target, x - sigma * source, sigma)
    torch.testing.assert_close(
        heatmap(difference_map(estimates, 2), 3.0), heatmap(difference_map(target - source, 2), 3.0),
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    pixels=st.integers(0, 8),
    binary=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_growing_is_dilation_by_a_square(shape, pixels, binary, seed):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    if binary:
        mask = (mask > 0.9).float()
    found = grow_mask(mask, pixels)
    expected = [ndimage.grey_dilation(one.numpy(), size=(2 * pixels + 1,) * 2) for one in mask]
    assert found.shape == mask.shape
    np.testing.assert_array_equal(found.numpy(), np.stack(expected))


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    pixels=st.integers(1, 8),
    seed=st.integers(0, 2**31),
)
def test_blurring_is_a_gaussian_of_half_the_pixels(shape, pixels, seed):
    """scipy's filter with repeated borders, cut off at two standard deviations."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    expected = [ndimage.gaussian_filter(one.double().numpy(), pixels / 2, truncate=2.0, mode="nearest") for one in mask]
    np.testing.assert_allclose(array(blur_mask(mask, pixels)), np.stack(expected), atol=3e-6)


@pytest.mark.parametrize("pixels", [1, 3, 8, 40])
def test_blurring_changes_nothing_further_than_that_from_an_edge(pixels):
    """Nor anything in an empty or a full mask."""
    for value in (0.0, 1.0):
        constant = torch.full((2, 30, 50), value)
        assert torch.equal(blur_mask(constant, pixels), constant)
    mask = torch.zeros(1, 200, 260)
    mask[:, 60:160, 50:200] = 1.0
    near_outside = grow_mask(mask, pixels) != mask
    near_inside = grow_mask(1 - mask, pixels) != 1 - mask
    blurred = blur_mask(mask, pixels)
    far = ~(near_outside | near_inside)
    assert torch.equal(blurred[far], mask[far])
    assert far.any() and ((blurred > 0) & (blurred < 1)).any()
    assert blurred.min() >= 0 and blurred.max() <= 1


@pytest.mark.parametrize("pixels", [1, 2, 5])
def test_blurring_is_symmetric_and_keeps_order(pixels):
    one = torch.rand(2, 14, 14, generator=torch.Generator().manual_seed(5))
    two = one + 0.5 * (1 - one) * (randn(2, 14, 14, seed=6) > 0)
    blurred = blur_mask(one, pixels)
    for turned in (lambda m: m.flip(-1), lambda m: m.flip(-2), lambda m: m.mT):
        torch.testing.assert_close(blur_mask(turned(one), pixels), turned(blurred), rtol=0, atol=1e-6)
    torch.testing.assert_close(blur_mask(1 - one, pixels), 1 - blurred, rtol=0, atol=2e-6)
    assert (blur_mask(two, pixels) >= blurred - 1e-6).all()


def test_no_pixels_is_no_change():
    mask = torch.rand(1, 9, 9)
    assert torch.equal(grow_mask(mask, 0), mask) and torch.equal(blur_mask(mask, 0), mask)


SIGMAS = [2.0, 1.3, 0.7, 0.25, 0.0]
TRAJECTORY = [randn(2, 3, 5, 6, seed=30 + i) for i in range(len(SIGMAS))]


def d(x, sigma: float):
    """A nonlinear slope that mixes neighbours; for tensors and arrays."""
    library, roll = (torch, torch.roll) if isinstance(x, Tensor) else (np, np.roll)
    return library.tanh(1.5 * roll(x, 1, -1) - 0.5 * roll(x, 1, 1)) + sigma * x


def denoise(x: Tensor, sigma: float) -> Tensor:
    return x - sigma * d(x, sigma)


def test_without_a_mask_the_result_is_the_picture_bit_for_bit():
    assert torch.equal(masked_decode(denoise, TRAJECTORY, SIGMAS, torch.zeros(1, 1, 5, 6)), TRAJECTORY[-1])


def test_with_a_full_mask_the_result_is_plain_euler_bit_for_bit():
    x = TRAJECTORY[0]
    for sigma, following in itertools.pairwise(SIGMAS):
        x = x + (following - sigma) * ((x - denoise(x, sigma)) / sigma)
    found = masked_decode(denoise, TRAJECTORY, SIGMAS, torch.ones(1, 1, 5, 6))
    assert torch.equal(found, x)
    assert not torch.allclose(found, TRAJECTORY[-1], atol=0.1)


@settings(max_examples=40)
@given(kind=st.sampled_from(["soft", "hard", "of each picture", "everywhere half"]), seed=st.integers(0, 2**31))
def test_a_mask_blends_as_the_slow_reference(kind, seed):
    weights = torch.rand(2 if kind == "of each picture" else 1, 1, 5, 6, generator=torch.Generator().manual_seed(seed))
    if kind == "hard":
        weights = (weights > 0.5).float()
    if kind == "everywhere half":
        weights = torch.full_like(weights, 0.5)
    found = masked_decode(denoise, TRAJECTORY, SIGMAS, weights)
    expected = slow.masked_decode(d, [array(z) for z in TRAJECTORY], SIGMAS, array(weights))
    np.testing.assert_allclose(array(found), expected, rtol=1e-4, atol=1e-5)


def test_a_video_is_blended_frame_by_frame():
    trajectory = [randn(1, 2, 3, 4, 4, seed=40 + i) for i in range(len(SIGMAS))]
    weights = torch.rand(1, 1, 3, 4, 4, generator=torch.Generator().manual_seed(7))
    found = masked_decode(denoise, trajectory, SIGMAS, weights)
    expected = slow.masked_decode(d, [array(z) for z in trajectory], SIGMAS, array(weights))
    np.testing.assert_allclose(array(found), expected, rtol=1e-4, atol=1e-5)


def test_every_evaluation_sees_the_trajectory_of_its_own_level_outside_the_mask():
    """Off by one, as in diffusers, the state at level i would be that of level i − 1."""
    mask = torch.zeros(1, 1, 5, 6)
    mask[..., 2:4, 2:5] = 1.0
    outside = (mask == 0).expand(2, 3, 5, 6)
    seen = []

    def on_step(i, denoised, x):
        seen.append(i)
        torch.testing.assert_close(denoised, denoise(x, SIGMAS[i]))
        assert torch.equal(x[outside], TRAJECTORY[i][outside])
        if i:
            assert not torch.equal(x[~outside], TRAJECTORY[i][~outside])

    found = masked_decode(denoise, TRAJECTORY, SIGMAS, mask, on_step)
    assert seen == [0, 1, 2, 3]
    assert torch.equal(found[outside], TRAJECTORY[-1][outside])
    assert not torch.equal(found[~outside], TRAJECTORY[-1][~outside])


def test_the_trajectory_is_left_as_it_was():
    before = [z.clone() for z in TRAJECTORY]
    masked_decode(denoise, TRAJECTORY, SIGMAS, torch.full((1, 1, 5, 6), 0.5))
    assert all(torch.equal(a, b) for a, b in zip(before, TRAJECTORY, strict=True))


GOOD = {"strength": 0.5, "threshold": 0.5, "maps": 10, "clamp": 3.0, "grow": 8, "blur": 8}
BAD = [
    *[("strength", value) for value in (0.0, -0.1, 1.01, math.nan, math.inf, -math.inf)],
    *[("threshold", value) for value in (-0.01, 1.01, math.nan, math.inf)],
    *[("maps", value) for value in (0, -1)],
    *[("clamp", value) for value in (0.0, -3.0, math.nan, math.inf)],
    *[("grow", -1), ("blur", -1)],
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_setting_is_refused_by_name_and_value(name, value):
    with pytest.raises(ValueError, match=rf"{name} is {value};"):
        check_mask_settings(**{**GOOD, name: value})


@pytest.mark.parametrize(
    "change", [{}, {"strength": 1.0}, {"threshold": 0.0}, {"threshold": 1.0}, {"maps": 1}, {"grow": 0, "blur": 0}]
)
def test_the_ends_of_every_range_are_allowed(change):
    check_mask_settings(**{**GOOD, **change})
