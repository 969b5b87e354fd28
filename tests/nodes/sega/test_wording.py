"""Hints about a concept's text: for those that rarely do what they are meant to, and for no others."""

from __future__ import annotations

import pytest
from semantic_steering.nodes.host.sega.wording import hints

SAYS_NO = "it says what should not be there: say the thing alone, with direction remove"
SEVERAL = "several things in one text: a concept for each works better"
SAID = "the prompt says it already, so nothing differs: try another text"
ASKED = "the prompt itself asks for it: leave prompt empty"
DENIED = "the prompt says the opposite: take it out of the prompt, or leave prompt empty"


@pytest.mark.parametrize(
    ("text", "adds", "prompt", "said"),
    [
        ("glasses", True, "", []),
        ("an oil painting", True, "a portrait of a woman", []),
        ("gray hair", True, "a woman with red hair", []),
        ("hat", True, "a portrait of a hatter", []),  # a part of another word
        ("knot", True, "", []),
        ("nostalgia", True, "", []),
        ("no glasses", True, "", [SAYS_NO]),
        ("Without a hat", True, "", [SAYS_NO]),
        ("no glasses", False, "", []),
        ("glasses, beard", True, "", [SEVERAL]),
        ("a smile and a hat", True, "", [SEVERAL]),
        ("眼镜，微笑", True, "", [SEVERAL]),
        ("sandy beach", True, "", []),
        ("a black and white photo", True, "", []),
        ("Salt and pepper hair", True, "", []),
        ("red and blue stripes, a hat", True, "", [SEVERAL]),
        ("red hair and blue eyes", True, "", [SEVERAL]),
        ("glasses,", True, "", []),
        ("beard", True, "a man with a beard", [SAID]),
        ("beard", False, "a man with a beard", [ASKED]),
        ("beard", True, "a man with no beard", [DENIED]),
        ("hat", True, "a woman without a hat", [DENIED]),
        ("beard", False, "a man with no beard", []),
    ],
)
def test_what_is_said(text, adds, prompt, said):
    assert [str(hint) for hint in hints(text, adds, prompt)] == said
