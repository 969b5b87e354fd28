"""The texts of a slider: which are refused, and what the model is asked with."""

from __future__ import annotations

import pytest
import torch
from semantic_steering.nodes.host.training.words import batched, conditionings, preserved, texts


class Clip:
    """Encodes a text as its letters, in a tensor."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        letters = [float(ord(letter)) for letter in text.lower()] or [0.0]
        return [[torch.tensor(letters)[None, :, None], {"pooled_output": None}]]


def asked(*words):
    return conditionings(Clip(), texts(*words))


def read(conds):
    return {
        name: "".join(chr(int(letter)) for letter in cond[0][0].flatten() if letter) for name, cond in conds.items()
    }


def test_each_preserved_text_stands_beside_both_poles():
    conds = asked("person", " smiling person ", "serious person", "man\n\n woman \nman")
    assert read(conds) == {
        "target": "person",
        "plus 0": "smiling person, man", "minus 0": "serious person, man",
        "plus 1": "smiling person, woman", "minus 1": "serious person, woman",
    }  # fmt: skip
    assert preserved(conds) == 2


def test_without_any_the_poles_stand_alone():
    conds = asked("", "old", "young", " \n")
    assert read(conds) == {"target": "", "plus 0": "old", "minus 0": "young"}


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
        asked("person", positive, negative, preserve)


def test_a_checkpoint_without_a_text_encoder_is_refused():
    with pytest.raises(ValueError, match="clip is empty"):
        conditionings(None, texts("person", "old", "young", ""))


def test_encodings_of_one_text_are_the_rows_of_a_batch():
    one, two = ([[torch.full((1, 4, 2), value), {"pooled_output": None, "guidance": 3.5}]] for value in (1.0, 2.0))
    ((features, options),) = batched([one, two])
    assert torch.equal(features, torch.cat([one[0][0], two[0][0]]))
    assert options == {"pooled_output": None, "guidance": 3.5}
