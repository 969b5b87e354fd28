"""Pictures side by side: their pixels stay, their captions can be read and stand over them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from semantic_steering.nodes.strips import LabelledStrip

from devtools.server.results import cells

LONG = "a very long caption that does not fit"


def pictures(count, height, width, channels=3):
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(count))


def strip(images, *labels):
    (sheet,) = LabelledStrip.execute(images, "\n".join(labels)).args
    assert sheet.shape[0] == 1 and sheet.shape[-1] == 3
    assert sheet.min() >= 0 and sheet.max() <= 1
    return sheet[0]


def layout(images, sheet):
    """(top of the pictures, gap between them): the gap is also the margin at the left, right and bottom."""
    count, height, width = images.shape[:3]
    gap = (sheet.shape[1] - count * width) // (count + 1)
    assert count * width + (count + 1) * gap == sheet.shape[1]
    return sheet.shape[0] - height - gap, gap


def ink(images, sheet):
    """Where something is drawn over each picture: [(left, right)] in pixels from the picture's left edge, by ink."""
    top, gap = layout(images, sheet)
    width, found = images.shape[2], []
    for i in range(len(images)):
        left = gap + i * (width + gap)
        dark = (sheet[:top, left - gap // 2 : left + width + gap // 2].mean(-1) < 0.5).any(0).nonzero().flatten()
        found.append((int(dark.min()) - gap // 2, int(dark.max()) - gap // 2) if len(dark) else None)
    return found


@pytest.mark.parametrize(("count", "height", "width"), [(1, 64, 64), (5, 128, 128), (3, 96, 160), (2, 1024, 768)])
@pytest.mark.parametrize("channels", [3, 4])
def test_every_picture_keeps_its_exact_values(count, height, width, channels):
    images = pictures(count, height, width, channels)
    sheet = strip(images, *(str(i) for i in range(count)))
    top, gap = layout(images, sheet)
    assert 0 < gap <= max(4, width // 20)
    rest = torch.ones(sheet.shape[:2], dtype=torch.bool)
    for i, picture in enumerate(images):
        left = gap + i * (width + gap)
        assert torch.equal(sheet[top : top + height, left : left + width], picture[..., :3])
        rest[top : top + height, left : left + width] = False
    rest[:top] = False
    assert (sheet[rest] > 0.95).all()  # light paper between and below


@pytest.mark.parametrize("size", [128, 1024])
@pytest.mark.parametrize(
    "labels", [("-10", "0", "+10"), ("-1.5", LONG, "x"), (LONG, LONG, LONG), ("gypq|", "W" * 60, "0")]
)
def test_captions_are_centred_and_not_cut(size, labels):
    images = pictures(3, size, size)
    sheet = strip(images, *labels)
    for left, right in ink(images, sheet):
        assert left >= -1 and right <= size
        assert abs((left + right) / 2 - size / 2) <= 0.03 * size
    top, _ = layout(images, sheet)
    assert (sheet[0] > 0.9).all() and (sheet[top - 1] > 0.9).all()  # nothing runs out of the bar


def rows_of_ink(images, sheet, i):
    top, gap = layout(images, sheet)
    left = gap + i * (images.shape[2] + gap)
    dark = (sheet[:top, left : left + images.shape[2]].mean(-1) < 0.5).any(1)
    return dark.int().tolist()


@pytest.mark.parametrize("size", [64, 128, 512, 1024])
def test_captions_grow_with_the_pictures_and_stay_readable(size):
    """A digit is drawn at least 6 pixels high, also beside a caption that does not fit."""
    images = pictures(2, size, size)
    alone, beside = strip(images, "8", "8"), strip(images, "8", LONG + " and " + "W" * 60)
    usual, shrunk = (sum(rows_of_ink(images, sheet, 0)) for sheet in (alone, beside))
    assert usual >= max(8, size / 32)
    assert 6 <= shrunk <= usual


def test_an_empty_line_leaves_a_picture_without_a_caption():
    images = pictures(3, 128, 128)
    first, second, third = ink(images, strip(images, "-1", "", "+1"))
    assert first and third and second is None


def test_the_caption_of_a_picture_is_its_line():
    images = pictures(2, 128, 128)
    top, gap = layout(images, sheet := strip(images, "-1", "+1"))
    swapped = strip(images, "+1", "-1")
    one, other = slice(gap, gap + 128), slice(2 * gap + 128, 2 * gap + 256)
    assert torch.equal(sheet[:top, one], swapped[:top, other])
    assert torch.equal(sheet[:top, other], swapped[:top, one])
    assert not torch.equal(sheet[:top, one], sheet[:top, other])


@pytest.mark.parametrize(("labels", "count"), [("a\nb", 3), ("a\nb\nc\nd", 3), ("a\n\n", 1)])
def test_another_number_of_labels_than_pictures_is_refused(labels, count):
    lines = len(labels.splitlines())
    with pytest.raises(ValueError, match=rf"labels has {lines} lines, images has {count} pictures; write one line"):
        LabelledStrip.execute(pictures(count, 32, 32), labels)


@pytest.mark.parametrize("labels", ["", " \n "])
def test_without_any_text_there_are_no_captions(labels):
    images = pictures(2, 64, 64)
    assert torch.equal(LabelledStrip.execute(images, labels).args[0][0], strip(images, "", ""))


def test_a_line_break_at_the_end_is_no_further_label():
    images = pictures(2, 64, 64)
    assert torch.equal(LabelledStrip.execute(images, "a\r\n b \r\n").args[0][0], strip(images, "a", "b"))


@pytest.mark.parametrize("images", [None, torch.zeros(0, 8, 8, 3), torch.zeros(8, 8, 3)])
def test_no_pictures_are_refused(images):
    with pytest.raises(ValueError, match=r"^images (holds no picture; connect a batch|is None .* connect Load Image)"):
        LabelledStrip.execute(images, "a")


def test_before_stands_first_and_takes_the_first_label():
    before, after = pictures(1, 64, 96), pictures(2, 64, 96)
    sheet = LabelledStrip.execute(after, "a\nb\nc", before).args[0]
    assert torch.equal(sheet, LabelledStrip.execute(torch.cat([before, after]), "a\nb\nc").args[0])


def test_before_gets_the_size_of_the_others():
    """A picture through an autoencoder has lost the pixels over a multiple of eight at its edges."""
    whole = pictures(1, 70, 100)
    sheet = LabelledStrip.execute(pictures(1, 64, 96), "", whole).args[0]
    cut = LabelledStrip.execute(pictures(1, 64, 96), "", pictures(1, 64, 96)).args[0]
    assert sheet.shape == cut.shape


@pytest.mark.parametrize(
    ("before", "labels", "said"),
    [
        (torch.rand(0, 8, 8, 3), "", "before holds no picture"),
        (torch.rand(1, 8, 8, 2), "", "before has the shape"),
        (torch.rand(1, 8, 8, 3), "one", "labels has 1 lines, before and images have 2 pictures"),
    ],
)
def test_a_wrong_before_is_refused(before, labels, said):
    with pytest.raises(ValueError, match=said):
        LabelledStrip.execute(pictures(1, 8, 8), labels, before)


@pytest.mark.parametrize("side", [128, 512])
def test_the_demo_cuts_the_pictures_out_again(side):
    given = pictures(5, side, side)
    sheet = strip(given, "-2", "-1, in more than one line of its picture", "0", "1", "2")
    found = cells(Image.fromarray((sheet * 255).byte().numpy()), side)
    assert len(found) == 5
    for picture, cut in zip(given, found, strict=True):
        assert np.array_equal(np.asarray(cut), (picture * 255).byte().numpy())
