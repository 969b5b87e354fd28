"""The demo's report, without a server."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from demo.portraits.attributes import ATTRIBUTES, INDEX
from devtools.demo import as_asked, judged, meaning, summary
from devtools.strips import strip


class FixedJudge:
    """Sees these attributes in every picture."""

    def __init__(self, *present: str):
        self.answer = torch.full((1, len(ATTRIBUTES)), 0.1)
        for name in present:
            self.answer[0, INDEX[name]] = 0.9

    def probabilities(self, pictures):
        assert pictures.shape == (1, 3, 128, 128)
        assert 0 <= pictures.min() <= pictures.max() <= 1
        return self.answer


PICTURE = Image.new("RGB", (128, 128), (250, 100, 0))


WORDS = {
    "glasses": ("attribute", "glasses"),
    "a smile": ("attribute", "smile"),
    "Gray hair": ("attribute", "gray_hair"),
    "man": ("attribute", "male"),
    "pencil sketch": ("style", "sketch"),
    "an oil painting": ("style", "painting"),
}


@pytest.mark.parametrize("text", WORDS)
def test_words_have_their_meaning(text):
    assert meaning(text) == WORDS[text]


def test_unknown_words_are_an_error():
    with pytest.raises(ValueError, match="no words for the concept 'a parrot'"):
        meaning("a parrot")


def test_what_cannot_be_judged_is_left_out():
    assert set(judged(FixedJudge("smile"), PICTURE, "photo")) == set(ATTRIBUTES)
    under_a_hat = judged(FixedJudge("hat"), PICTURE, "photo")
    assert set(ATTRIBUTES) - set(under_a_hat) == {"bald", "curls", "bangs", "gray_hair"}
    assert set(ATTRIBUTES) - set(judged(FixedJudge(), PICTURE, "sketch")) == {"makeup", "gray_hair"}


@pytest.mark.parametrize(("direction", "wanted", "unwanted"), [("add", 0.9, 0.1), ("remove", 0.1, 0.9)])
def test_as_asked(direction, wanted, unwanted):
    asked = {"attribute": "beard", "direction": direction}
    assert as_asked(asked, {"beard": wanted})
    assert not as_asked(asked, {"beard": unwanted})
    assert not as_asked(asked, {})


def test_the_summary_counts_only_what_had_to_change():
    asked = [{"attribute": "glasses", "direction": "add"}]
    rows = [
        {"asked": asked, "seconds": 2, "before": {"glasses": before}, "after": {"glasses": after}, "neutral": neutral}
        for before, after, neutral in ((0.1, 0.9, []), (0.1, 0.2, []), (0.9, 0.9, ["glasses"]))
    ]
    assert summary("one", rows) == "one: 3 pictures, 2.0 s each; add glasses 1 of 2"


def test_strips_show_small_pictures_large():
    sheet = strip([PICTURE, PICTURE], ["before", "after"], ["a line", "word " * 100])
    assert sheet.width >= 2 * 256
    colours = sheet.getcolors(sheet.width * sheet.height)
    assert max(count for count, colour in colours if colour == (250, 100, 0)) == 2 * 384 * 384
