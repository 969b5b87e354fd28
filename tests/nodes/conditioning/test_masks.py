"""Where a concept acts: its mask, and the area, mask, strength and range of its conditioning."""

from __future__ import annotations

import numpy as np
import pytest
import slow_sega as slow
import tiny_models
import torch
from semantic_steering.nodes.host.conditioning.masks import latent_mask

POSITIVE, NEGATIVE, TARGET = tiny_models.stub_cond(1), tiny_models.stub_cond(2), tiny_models.stub_cond(3)
STEP = torch.tensor([2.0, 0.0])
SHAPE = torch.Size([1, *tiny_models.SIZE])
DIFFERENCE = (tiny_models.eps_of(TARGET) - tiny_models.eps_of(NEGATIVE)).double().numpy()


def term(target=TARGET, batch=1, **options):
    """γ of one Euler step."""
    model, start = tiny_models.stub_model(), tiny_models.noise(batch, *tiny_models.SIZE)
    steered = tiny_models.steer(model, tiny_models.concept(target, 2.0, **options))
    plain, edited = (tiny_models.sample_cfg(m, POSITIVE, NEGATIVE, 4.0, start, STEP) for m in (model, steered))
    return tiny_models.added_term(plain, edited, STEP)


def expected_term(mask, threshold=0.0, difference=DIFFERENCE):
    kept = slow.keep(difference, threshold, mask=mask)
    return torch.from_numpy(2.0 * kept * (1.0 if mask is None else mask)).float()


def random_mask(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(48, 48), (6, 6), (96, 24), (50, 47), (3, 3)])
def test_a_mask_is_averaged_over_the_area_of_each_cell(size):
    mask = random_mask(1, *size)
    found = latent_mask(tiny_models.concept(TARGET, mask=mask), SHAPE)
    assert found.shape == (1, 1, 6, 6)
    for i in range(6):
        for j in range(6):
            top, bottom = i * size[0] // 6, -(-(i + 1) * size[0] // 6)
            left, right = j * size[1] // 6, -(-(j + 1) * size[1] // 6)
            assert found[0, 0, i, j].item() == pytest.approx(mask[0, top:bottom, left:right].mean().item(), abs=1e-6)


def test_a_cell_that_the_mask_touches_belongs_to_the_region():
    mask = torch.zeros(1, 48, 48)
    mask[0, 16, 24] = 1.0  # a single pixel
    found = latent_mask(tiny_models.concept(TARGET, mask=mask), SHAPE)
    assert found.count_nonzero() == 1
    assert found[0, 0, 2, 3].item() == pytest.approx(1 / 64)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9])
def test_the_threshold_ranks_the_region_and_the_mask_weights_the_rest(threshold):
    mask = torch.zeros(1, 6, 6)
    mask[0, :, 2:] = random_mask(6, 4)
    found = term(threshold=threshold, mask=mask)
    expected = expected_term(mask[:, None].double().numpy(), threshold)
    assert (found != 0).sum() > 0
    assert (found[..., :2] == 0).all()  # outside is exactly 0, to the bit
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_outside_the_mask_the_picture_keeps_its_bits():
    """A whole run with momentum: with the stub nothing but the edit could carry a change there."""
    model, mask = tiny_models.stub_model(), torch.zeros(1, 48, 48)
    mask[0, 16:32, 16:32] = 1.0
    plain = tiny_models.sample_cfg(model, POSITIVE, NEGATIVE)
    edited = tiny_models.sample_cfg(
        tiny_models.steer(model, tiny_models.concept(TARGET, mask=mask), momentum=0.5), POSITIVE, NEGATIVE
    )
    changed = (plain != edited).any(dim=1)[0]
    assert changed[2:4, 2:4].all()
    assert changed.sum() == 4


def test_one_mask_serves_a_whole_batch():
    mask = random_mask(1, 6, 6).round()
    single, batch = term(mask=mask), term(batch=3, mask=mask)
    assert 0 < single.count_nonzero() < single.numel()
    for i in range(3):
        torch.testing.assert_close(batch[i : i + 1], single, rtol=1e-3, atol=1e-3)


def test_each_picture_of_a_batch_can_have_its_own_mask():
    masks = random_mask(3, 6, 6).round()
    masks[1] = 0.0  # nothing acts on the second picture
    found = term(batch=3, threshold=0.5, mask=masks)
    for i in range(3):
        expected = expected_term(masks[i : i + 1, None].double().numpy(), 0.5)
        torch.testing.assert_close(found[i : i + 1], expected, rtol=1e-3, atol=1e-3)
    assert (found[1] == 0).all()
    assert (found[0] != 0).any()


@pytest.mark.parametrize(("masks", "batch"), [(2, 1), (2, 3), (3, 2), (4, 3)])
def test_another_number_of_masks_than_pictures_is_refused(masks, batch):
    with pytest.raises(
        ValueError, match=rf"mask has a batch of {masks}, the latent a batch of {batch}.*connect one mask"
    ):
        term(batch=batch, mask=torch.ones(masks, 6, 6))


def test_a_single_videos_frames_can_each_have_a_mask():
    size = (4, 3, 5, 5)
    masks = random_mask(3, 40, 40, seed=2).round()
    masks[1] = 0.0
    found = latent_mask(tiny_models.concept(TARGET, mask=masks), torch.Size([1, *size]))
    assert found.shape == (1, 1, 3, 5, 5)
    for frame in range(3):
        alone = latent_mask(tiny_models.concept(TARGET, mask=masks[frame : frame + 1]), torch.Size([1, 4, 5, 5]))
        assert torch.equal(found[0, 0, frame], alone[0, 0])


def test_a_mask_for_each_picture_of_a_video_is_averaged_over_latent_frames():
    """The first picture is a latent frame of its own, then four make one, as video autoencoders encode them."""
    masks = random_mask(9, 40, 40, seed=3)
    shape = torch.Size([1, 4, 3, 5, 5])
    found = latent_mask(tiny_models.concept(TARGET, mask=masks), shape, 4)
    groups = torch.stack([masks[0], masks[1:5].mean(0), masks[5:].mean(0)])
    assert torch.allclose(found, latent_mask(tiny_models.concept(TARGET, mask=groups), shape, 4), atol=1e-6)
    with pytest.raises(ValueError, match="with 9 frames"):
        latent_mask(tiny_models.concept(TARGET, mask=masks[:8]), shape, 4)


def test_one_mask_serves_all_frames_of_a_video():
    found = latent_mask(tiny_models.concept(TARGET, mask=random_mask(1, 40, 40)), torch.Size([2, 4, 3, 5, 5]))
    assert found.expand(2, 4, 3, 5, 5).shape == (2, 4, 3, 5, 5)
    with pytest.raises(ValueError, match="with 3 frames"):
        latent_mask(tiny_models.concept(TARGET, mask=random_mask(5, 40, 40)), torch.Size([2, 4, 3, 5, 5]))


def test_a_mask_without_a_batch_is_one_mask():
    mask = random_mask(48, 48)
    assert torch.equal(
        latent_mask(tiny_models.concept(TARGET, mask=mask), SHAPE),
        latent_mask(tiny_models.concept(TARGET, mask=mask[None]), SHAPE),
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_mask_with_values_that_are_not_numbers_is_refused(value):
    mask = torch.ones(1, 6, 6)
    mask[0, 0, 0] = value
    with pytest.raises(ValueError, match="mask holds NaN or infinite"):
        tiny_models.concept(TARGET, mask=mask)


class TestConditioningsOwnLimits:
    def test_strength_multiplies_the_edit(self):
        found = term(tiny_models.stub_cond(3, strength=0.25))
        torch.testing.assert_close(found, 0.25 * expected_term(None), rtol=1e-3, atol=1e-3)

    def test_an_area_in_cells_limits_the_edit(self):
        region = np.zeros((1, 1, 6, 6))
        region[..., 1:4, 2:6] = 1  # height 3, width 4, from row 1 and column 2
        found = term(tiny_models.stub_cond(3, area=(3, 4, 1, 2)), threshold=0.5)
        assert found.count_nonzero() == 4 * 6
        torch.testing.assert_close(found, expected_term(region, 0.5), rtol=1e-3, atol=1e-3)

    def test_an_area_in_shares_limits_the_edit(self):
        region = np.zeros((1, 1, 6, 6))
        region[..., 3:6, 0:2] = 1
        found = term(tiny_models.stub_cond(3, area=("percentage", 0.5, 1 / 3, 0.5, 0.0)))
        torch.testing.assert_close(found, expected_term(region), rtol=1e-3, atol=1e-3)

    def test_its_mask_weights_the_edit(self):
        mask = random_mask(1, 6, 6)
        found = term(tiny_models.stub_cond(3, mask=mask, mask_strength=0.5))
        torch.testing.assert_close(found, expected_term(0.5 * mask[:, None].double().numpy()), rtol=1e-3, atol=1e-3)

    def test_both_masks_and_an_area_multiply(self):
        one, other = random_mask(1, 6, 6, seed=1), random_mask(1, 6, 6, seed=2)
        region = torch.zeros(1, 6, 6)
        region[:, :3] = 1
        found = term(tiny_models.stub_cond(3, mask=one, area=(3, 6, 0, 0)), mask=other)
        product = (one * other * region)[:, None].double().numpy()
        torch.testing.assert_close(found, expected_term(product), rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize(
        ("own", "window", "acts"),
        [((0.0, 1.0), (0.0, 1.0), True), ((0.6, 1.0), (0.0, 1.0), False), ((0.0, 0.8), (0.2, 1.0), True),
         ((0.0, 0.3), (0.2, 1.0), False), ((0.0, 1.0), (0.6, 1.0), False)],
    )  # fmt: skip
    def test_its_range_narrows_the_window(self, own, window, acts):
        """σ = 2 lies near 0.45 of the range."""
        target = tiny_models.stub_cond(3, start_percent=own[0], end_percent=own[1])
        assert bool(term(target, start=window[0], end=window[1]).count_nonzero()) is acts

    def test_several_entries_are_averaged(self):
        other = tiny_models.stub_cond(5)
        found = term([*TARGET, *other])
        mean = (tiny_models.eps_of(TARGET) + tiny_models.eps_of(other)) / 2 - tiny_models.eps_of(NEGATIVE)
        torch.testing.assert_close(found, 2.0 * mean, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize(
        "limit",
        [{"area": (3, 3, 0, 0)}, {"mask": torch.ones(1, 6, 6)}, {"strength": 0.5}, {"start_percent": 0.3},
         {"end_percent": 0.5}],
        ids=lambda limit: next(iter(limit)),
    )  # fmt: skip
    def test_a_limit_on_one_of_several_entries_is_refused(self, limit):
        with pytest.raises(ValueError, match=f"2 entries and one of them is limited by {next(iter(limit))}"):
            tiny_models.concept([*TARGET, *tiny_models.stub_cond(5, **limit)])

    def test_values_that_limit_nothing_are_fine_on_several_entries(self):
        whole = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
        found = term([*TARGET, *tiny_models.stub_cond(5, **whole)])
        assert found.count_nonzero() == found.numel()
