"""Pictures behind masks: which one stands behind which, and that nothing but the mask changes it."""

from __future__ import annotations

import pytest
import torch
from semantic_steering.nodes.host.page.previews import fitted_pictures, masked_picture


def plain(count: int, size: int = 6) -> torch.Tensor:
    """Pictures of one colour each, another for each."""
    shades = torch.arange(1, count + 1) / (count + 1)
    return shades.reshape(-1, 1, 1, 1).expand(count, size, size, 3).clone()


@pytest.mark.parametrize(
    ("pictures", "masks", "expected"),
    [
        (1, 3, [0, 0, 0]),
        (2, 2, [0, 1]),
        (2, 4, [0, 0, 1, 1]),
        (3, 9, [0, 0, 0, 1, 1, 1, 2, 2, 2]),
        (4, 2, [0, 2]),
        (3, 1, [0]),
    ],
)
def test_each_picture_stands_behind_its_share_of_the_masks_in_their_order(pictures, masks, expected):
    given = plain(pictures)
    shown = masked_picture(given, torch.zeros(masks, 12, 9))
    assert shown.shape == (masks, 12, 9, 3)
    assert shown[:, 0, 0, 0].tolist() == given[expected, 0, 0, 0].tolist()
    assert torch.equal(shown, fitted_pictures(given, masks, (12, 9)))


def test_a_picture_of_the_right_size_keeps_its_values():
    picture = torch.rand(2, 5, 7, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fitted_pictures(picture, 2, (5, 7)), picture)


def test_more_mask_is_more_colour_and_each_mask_stays_on_its_own_picture():
    mask = torch.zeros(2, 4, 4)
    mask[0, :2], mask[1, 2:] = 0.5, 1.0
    change = (masked_picture(plain(2, 4), mask) - plain(2, 4)).abs().amax(-1)
    assert torch.equal(change > 0, mask > 0)
    assert change[1].max() > change[0].max()
