"""An IMAGE of one channel or four, wherever a node takes pictures."""

from __future__ import annotations

import pytest
import slider_runs
import torch
from semantic_steering.nodes.host.page.previews import in_colour
from semantic_steering.nodes.strips import LabelledStrip

PICTURES = torch.rand(2, 16, 16, 4, generator=torch.Generator().manual_seed(0))


def test_gray_is_shown_in_three_equal_channels():
    gray = PICTURES[..., :1]
    assert torch.equal(in_colour(gray, "image"), gray.repeat(1, 1, 1, 3))
    strip, expected = (LabelledStrip.execute(pictures, "a\nb").args[0] for pictures in (gray, gray.repeat(1, 1, 1, 3)))
    assert torch.equal(strip, expected)


def test_transparency_is_left_out():
    strip, expected = (LabelledStrip.execute(pictures, "a\nb").args[0] for pictures in (PICTURES, PICTURES[..., :3]))
    assert torch.equal(strip, expected)


@pytest.mark.parametrize("shape", [(2, 16, 16, 2), (16, 16, 3), (2, 16, 16, 5)])
def test_others_are_refused(shape):
    with pytest.raises(ValueError, match=r"images has the shape \[.*must be pictures \[N, height, width, 3\]"):
        in_colour(torch.zeros(shape), "images")


def test_a_slider_that_acts_while_sampling_only_says_so(caplog):
    caplog.set_level("INFO")
    slider_runs.load(slider_runs.FAMILY.model, slider_runs.ONE, 0.5, 0.0)
    assert "saved model" not in caplog.text
    slider_runs.load(slider_runs.FAMILY.model, slider_runs.ONE, 0.5, 0.3)
    assert "acts while sampling only, not in a merged or saved model" in caplog.text
