"""The texts of a slider: which are refused, and what the model is asked with."""

from __future__ import annotations

import pytest
import torch
from semantic_steering.nodes.host.training.words import conditionings, preserved


class Clip:
    """Encodes a text as its letters, in a tensor."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        letters = [float(ord(letter)) for letter in text.lower()] or [0.0]
        return [[torch.tensor(letters)[None, :, None], {"pooled_output": None}]]


def texts(conds):
    return {
        name: "".join(chr(int(letter)) for letter in cond[0][0].flatten() if letter) for name, cond in conds.items()
    }


def test_each_preserved_text_stands_beside_both_poles():
    conds = conditionings(Clip(), "person", " smiling person ", "serious person", "man\n\n woman \nman")
    assert texts(conds) == {
        "target": "person",
        "plus 0": "smiling person, man", "minus 0": "serious person, man",
        "plus 1": "smiling person, woman", "minus 1": "serious person, woman",
    }  # fmt: skip
    assert preserved(conds) == 2


def test_without_any_the_poles_stand_alone():
    conds = conditionings(Clip(), "", "old", "young", " \n")
    assert texts(conds) == {"target": "", "plus 0": "old", "minus 0": "young"}


@pytest.mark.parametrize(
    ("positive", "negative", "preserve", "words"),
    [
        ("", "young", "", "positive has no text.*leads? to at \\+1|positive has no text"),
        ("old", "\n", "", "negative has no text"),
        ("old", "OLD", "", "are the same to this model"),
        ("old", "young", "hat\nOld", "preserve holds 'Old', which is positive"),
    ],
)
def test_bad_texts_are_refused(positive, negative, preserve, words):
    with pytest.raises(ValueError, match=words):
        conditionings(Clip(), "person", positive, negative, preserve)


def test_a_checkpoint_without_a_text_encoder_is_refused():
    with pytest.raises(ValueError, match="clip is empty"):
        conditionings(None, "person", "old", "young", "")
