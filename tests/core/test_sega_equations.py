"""edit_term and its parts are the paper's equations, against a slow independent reference and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import slow_sega as slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guidance_core import (
    THRESHOLD_OVER,
    Concept,
    Momentum,
    SigmaWindow,
    edit_term,
    keep_strongest,
    needed,
    noise_difference,
)

ALWAYS = SigmaWindow(1e9, 0.0)
SHAPES = st.one_of(
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
)
SCALES = st.one_of(st.floats(-8, 8), st.tuples(st.sampled_from([0.0, 3.0]), st.floats(-8, 8)))  # one, or one a picture
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 8e-2}


def noise(shape, seed: int, dtype=torch.float32) -> torch.Tensor:
    # every value is one that float32 (and for halves, the half) holds exactly: thresholds then decide alike
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(dtype) if dtype is not torch.float64 else values.double()


@settings(max_examples=150)
@given(
    shape=SHAPES,
    dtype=st.sampled_from(list(TOLERANCE)),
    concepts=st.lists(
        st.tuples(SCALES, st.floats(0, 1), st.sampled_from([4.0, 2.0, 0.5]), st.sampled_from([0.0, 1.0])),
        min_size=1,
        max_size=4,
    ),
    over=st.sampled_from(THRESHOLD_OVER),
    momentum=st.tuples(st.floats(0, 1), st.floats(0, 0.99)),
    sigma=st.sampled_from([5.0, 3.0, 1.5, 0.4]),
    masked=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_one_evaluation_equals_the_slow_reference(shape, dtype, concepts, over, momentum, sigma, masked, seed):
    entries = [(s[: shape[0]] if isinstance(s, tuple) else s, t, max(start, end), end) for s, t, start, end in concepts]
    fast = [Concept(s, t, SigmaWindow(start, end)) for s, t, start, end in entries]
    reference = [slow.SlowConcept(*entry) for entry in entries]
    evaluated = [i for i, concept in enumerate(reference) if not concept.ended(sigma)]
    differences = {i: noise(shape, seed + i, dtype) for i in evaluated}
    nu = {i: noise(shape, seed + 100 + i, dtype) for i in evaluated if i % 2 == 0}
    masks = {}
    if masked:
        weights = torch.rand(1, 1, *shape[2:], generator=torch.Generator().manual_seed(seed))
        masks = {0: torch.where(weights < 0.5, 0.0, weights.half().float())}
    gamma, following = edit_term(differences, fast, sigma, Momentum(*momentum), nu, over, masks)

    def array(tensor):
        return tensor.double().numpy()

    total, expected = slow.step(
        {i: array(d) for i, d in differences.items()}, reference, sigma, *momentum,
        {i: array(v) for i, v in nu.items()}, over, {i: array(m) for i, m in masks.items()},
    )  # fmt: skip
    found = sum((array(term) for term in gamma.values()), np.zeros(shape))
    atol = TOLERANCE[dtype] * (1 + 10 * len(entries))
    np.testing.assert_allclose(found, np.broadcast_to(total, shape), rtol=TOLERANCE[dtype], atol=atol)
    if momentum[0] == 0:
        assert following == {}  # without momentum there is nothing to remember
    else:
        assert following.keys() == expected.keys()
        for i, value in following.items():
            np.testing.assert_allclose(array(value), expected[i], rtol=TOLERANCE[dtype], atol=atol)


@settings(max_examples=100)
@given(
    shape=SHAPES,
    threshold=st.floats(0, 1),
    over=st.sampled_from(THRESHOLD_OVER),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 2**31),
)
def test_kept_positions_are_exactly_the_slow_references(shape, threshold, over, dtype, seed):
    psi = noise(shape, seed, dtype)
    kept = keep_strongest(psi[None], torch.tensor([threshold], dtype=torch.float64), over)[0]
    assert kept.dtype == dtype
    np.testing.assert_array_equal(kept.double().numpy(), slow.keep(psi.double().numpy(), threshold, over))


def test_a_threshold_of_nine_tenths_keeps_a_tenth_of_each_channel():
    psi = torch.stack([noise((10, 10), 1), 100 * noise((10, 10), 2)])[None, None]  # [K, B, C, h, w]
    kept = keep_strongest(psi, torch.tensor([0.9], dtype=torch.float64), "channel")
    assert (kept != 0).sum(dim=(-1, -2)).flatten().tolist() == [10, 10]
    over_latent = keep_strongest(psi, torch.tensor([0.9], dtype=torch.float64), "latent")
    assert (over_latent != 0).sum(dim=(-1, -2)).flatten().tolist() == [0, 20]  # only the loud channel


def test_time_is_part_of_a_channels_quantile():
    psi = torch.ones(1, 1, 1, 4, 5, 5)
    psi[0, 0, 0, 2] = 3.0  # all of what counts happens in one of four frames
    kept = keep_strongest(psi, torch.tensor([0.9], dtype=torch.float64))
    assert (kept != 0).sum(dim=(-1, -2)).flatten().tolist() == [0, 0, 25, 0]


def test_only_the_regions_own_elements_are_ranked_and_kept():
    psi = noise((1, 1, 1, 8, 8), 3)
    psi[..., :4] *= 1000  # outside the region, and stronger than anything inside
    region = torch.zeros(1, 1, 1, 8, 8, dtype=torch.bool)
    region[..., 4:] = True
    kept = keep_strongest(psi, torch.tensor([0.75], dtype=torch.float64), region=region)
    assert (kept[..., :4] == 0).all()
    assert (kept[..., 4:] != 0).sum() == 8  # a quarter of the region's 32


def test_an_empty_region_keeps_nothing():
    psi = noise((1, 2, 3, 4, 4), 4)
    region = torch.ones(1, 2, 1, 4, 4, dtype=torch.bool)
    region[:, 1] = False
    kept = keep_strongest(psi, torch.tensor([0.5], dtype=torch.float64), region=region)
    assert (kept[:, 1] == 0).all()
    assert (kept[:, 0] != 0).any()
    assert kept.isfinite().all()


def test_an_unknown_threshold_space_is_refused():
    with pytest.raises(ValueError, match="threshold_over is 'sample'"):
        keep_strongest(torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, dtype=torch.float64), "sample")


@settings(max_examples=50)
@given(
    shape=SHAPES,
    scales=st.lists(st.floats(-10, 10), min_size=1, max_size=5),
    over=st.sampled_from(THRESHOLD_OVER),
    seed=st.integers(0, 2**31),
)
def test_threshold_0_is_plain_composable_guidance(shape, scales, over, seed):
    """λ = 0, no momentum, no window: Σ s_i·Δn_i, nothing else."""
    concepts = [Concept(scale, 0.0, ALWAYS) for scale in scales]
    differences = {i: noise(shape, seed + i) for i in range(len(scales))}
    gamma, _ = edit_term(differences, concepts, 1.0, Momentum(0.0, 0.4), {}, over)
    expected = sum(scale * differences[i].double() for i, scale in enumerate(scales))
    torch.testing.assert_close(sum(gamma.values()).double(), expected, rtol=1e-5, atol=1e-4)


def test_removing_is_the_opposite_of_adding():
    difference = {0: noise((2, 4, 6, 6), 5)}
    add, _ = edit_term(difference, [Concept(5.0, 0.9, ALWAYS)], 1.0, Momentum(0.0), {})
    remove, _ = edit_term(difference, [Concept(-5.0, 0.9, ALWAYS)], 1.0, Momentum(0.0), {})
    assert add[0].count_nonzero() > 0
    assert torch.equal(add[0], -remove[0])


def test_the_threshold_does_not_change_with_the_scale():
    """So the paper's g_i and the reference's edit weights are the same number as the scale."""
    difference = {0: noise((1, 4, 6, 6), 6)}
    one, _ = edit_term(difference, [Concept(1.0, 0.8, ALWAYS)], 1.0, Momentum(0.0), {})
    eight, _ = edit_term(difference, [Concept(8.0, 0.8, ALWAYS)], 1.0, Momentum(0.0), {})
    assert torch.equal(8 * one[0], eight[0])
    assert 0 < one[0].count_nonzero() < one[0].numel()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("over", THRESHOLD_OVER)
def test_a_batch_equals_its_singles_bit_for_bit(over, masked):
    differences = {i: noise((3, 4, 7, 5), 10 + i) for i in range(2)}
    concepts = [Concept(5.0, 0.9, ALWAYS), Concept(-3.0, 0.7, ALWAYS)]
    nu = {0: noise((3, 4, 7, 5), 20)}
    masks = {1: torch.rand(3, 1, 7, 5, generator=torch.Generator().manual_seed(3)).round()} if masked else None
    whole, after = edit_term(differences, concepts, 1.0, Momentum(0.3, 0.6), nu, over, masks)
    for b in range(3):
        single, after_single = edit_term(
            {i: d[b : b + 1] for i, d in differences.items()}, concepts, 1.0, Momentum(0.3, 0.6),
            {i: v[b : b + 1] for i, v in nu.items()}, over,
            masks and {i: m[b : b + 1] for i, m in masks.items()},
        )  # fmt: skip
        for i in range(2):
            assert torch.equal(whole[i][b : b + 1], single[i])
            assert torch.equal(after[i][b : b + 1], after_single[i])


@pytest.mark.parametrize("shape", [(3, 4, 7, 5), (3, 4, 2, 5, 4)])
@pytest.mark.parametrize("over", THRESHOLD_OVER)
def test_a_batch_with_a_scale_for_each_picture_equals_its_singles_bit_for_bit(over, shape):
    """Also where the scale is 0: such a concept is not evaluated in its single, and the momentum does not wait for it.
    Five evaluations, over both concepts' starts and one end."""
    windows, scales = (SigmaWindow(9.0, 3.0), SigmaWindow(6.0, 0.0)), (-4.0, 0.0, 7.5)
    levels, momentum = [8.0, 5.0, 4.0, 3.0, 2.0], Momentum(0.6, 0.5)

    def run(pictures, swept, indices):
        concepts = [Concept(2.0, 0.8, windows[0]), Concept(swept, 0.8, windows[1])]
        concepts = [concepts[i] for i in indices]
        nu, terms = {}, []
        for sigma in levels:
            seen = {i: noise(shape, int(sigma) + 50 * of)[pictures] for i, of in enumerate(indices)}
            asked = {i: seen[i] for i in needed(concepts, sigma, momentum, levels[-1])}
            gamma, nu = edit_term(asked, concepts, sigma, momentum, nu, over)
            terms.append(sum(gamma.values(), torch.zeros(())))
        return terms

    whole = run(slice(None), scales, [0, 1])
    for b, scale in enumerate(scales):
        single = run(slice(b, b + 1), scale, [0, 1] if scale else [0])
        for sigma, together, alone in zip(levels, whole, single, strict=True):
            assert torch.equal(together[b : b + 1], alone.expand(1, *shape[1:])), (scale, sigma)
    assert all(term.any() for term in whole)


def test_where_a_scale_is_0_the_term_and_the_momentum_are_exactly_0():
    gamma, nu = edit_term(
        {0: noise((2, 4, 6, 6), 5)}, [Concept((0.0, 3.0), 0.5, ALWAYS)], 1.0, Momentum(0.5), {}
    )  # fmt: skip
    assert not gamma[0][0].any() and not nu[0][0].any()
    assert gamma[0][1].any() and nu[0][1].any()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_another_number_of_scales_than_pictures_is_refused(count):
    concept = Concept((1.0,) * count, 0.5, ALWAYS)
    with pytest.raises(ValueError, match=f"scale has {count} numbers for a batch of 3"):
        edit_term({0: noise((3, 4, 6, 6), 5)}, [concept], 1.0, Momentum(), {})


def test_a_mask_weights_what_was_kept_and_is_exactly_0_outside():
    difference = noise((1, 4, 8, 8), 7)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:6, 2:6], mask[..., 4:6, 2:6] = 1.0, 0.25
    concept = [Concept(5.0, 0.5, ALWAYS)]
    gamma, nu = edit_term({0: difference}, concept, 1.0, Momentum(0.1, 0.4), {}, masks={0: mask})
    binary, _ = edit_term({0: difference}, concept, 1.0, Momentum(0.0), {}, masks={0: (mask > 0).float()})
    assert torch.equal(gamma[0], binary[0] * mask)
    assert (gamma[0][..., mask[0, 0] == 0] == 0).all()
    assert (nu[0][..., mask[0, 0] == 0] == 0).all()
    assert (gamma[0][0, :, 2:6, 2:6] != 0).sum(dim=(-1, -2)).tolist() == [8, 8, 8, 8]  # half of the region's 16


def test_a_mask_on_one_concept_leaves_the_others_whole():
    differences = {i: noise((1, 2, 6, 6), 30 + i) for i in range(2)}
    concepts = [Concept(5.0, 0.9, ALWAYS), Concept(5.0, 0.9, ALWAYS)]
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., :3] = 1.0
    masked, _ = edit_term(differences, concepts, 1.0, Momentum(0.0), {}, masks={0: mask})
    plain, _ = edit_term(differences, concepts, 1.0, Momentum(0.0), {})
    assert torch.equal(masked[1], plain[1])
    assert not torch.equal(masked[0], plain[0])


def test_no_estimates_means_no_term():
    assert edit_term({}, [Concept(5.0, 0.9, ALWAYS)], 1.0, Momentum(), {}) == ({}, {})


def test_a_noise_difference_is_minus_the_difference_of_predictions_over_sigma():
    x, eps, base = noise((1, 2, 3, 3), 8), noise((1, 2, 3, 3), 9), noise((1, 2, 3, 3), 10)
    found = noise_difference(x - 2.5 * eps, x - 2.5 * base, 2.5)
    torch.testing.assert_close(found, eps - base)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="scale"):
        Concept(value, 0.9, ALWAYS)
    with pytest.raises(ValueError, match=f"scale is {value}; it must be a finite number"):
        Concept((1.0, value), 0.9, ALWAYS)
    with pytest.raises(ValueError, match="threshold"):
        Concept(5.0, value, ALWAYS)
    with pytest.raises(ValueError, match="momentum_scale"):
        Momentum(value, 0.4)
    with pytest.raises(ValueError, match="momentum_beta"):
        Momentum(0.1, value)


def test_values_out_of_bounds_are_refused():
    for threshold in (-0.01, 1.01):
        with pytest.raises(ValueError, match="threshold"):
            Concept(5.0, threshold, ALWAYS)
    for scale in (-0.01, 1.01):
        with pytest.raises(ValueError, match="momentum_scale"):
            Momentum(scale, 0.4)
    for beta in (-0.01, 1.0):
        with pytest.raises(ValueError, match="momentum_beta"):
            Momentum(0.1, beta)
