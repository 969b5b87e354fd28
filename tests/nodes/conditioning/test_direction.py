"""Text Direction: what of a conditioning moves, what stays, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from semantic_steering.nodes.text_direction import TextDirection

from guidance_core import along_texts

WIDTHS = {"cond": (7, 6), "pooled_output": (5,), "conditioning_llama3": (2, 3, 4)}
MASK = torch.ones(1, 7)
AREA = {"area": (8, 8, 0, 0), "strength": 0.5, "attention_mask": MASK}


class Clip:
    """Three kinds of features of a text, as HiDream's encoders have them, each drawn by the text."""

    def __init__(self, **widths):
        self.widths = WIDTHS | widths

    def tokenize(self, text):
        return text

    def encode_from_tokens(self, tokens, return_pooled=False, return_dict=False):
        assert return_pooled
        assert return_dict
        rng = torch.Generator().manual_seed(sum(map(ord, tokens.lower())))
        made = {key: torch.randn(1, *shape, generator=rng) for key, shape in self.widths.items()}
        return {**made, "attention_mask": MASK * 2}


def conditioning(text: str, **options):
    made = Clip().encode_from_tokens(text, True, True)
    return [made.pop("cond"), {**made, **options}]


def moved(entries, strength=1.0, positive="old", negative="young", clip=None):
    return TextDirection.execute(entries, clip or Clip(), positive, negative, strength).args[0]


@pytest.mark.parametrize("strength", [-2.0, 0.5, 1.0])
def test_all_features_of_the_texts_move_and_nothing_else(strength):
    entries = [conditioning("one", **AREA), conditioning("two")]
    before = [[features.clone(), dict(options)] for features, options in entries]
    plus, minus = (Clip().encode_from_tokens(text, True, True) for text in ("old", "young"))
    for (features, options), (own, others) in zip(moved(entries, strength), before, strict=True):
        assert torch.equal(features, along_texts(own, plus["cond"], minus["cond"], strength))
        for key in ("pooled_output", "conditioning_llama3"):
            assert torch.equal(options[key], along_texts(others[key], plus[key], minus[key], strength))
        assert {key: options[key] for key in others if key not in plus or key == "attention_mask"} == {
            key: others[key] for key in others if key not in plus or key == "attention_mask"
        }
    for (features, options), (own, others) in zip(entries, before, strict=True):
        assert torch.equal(features, own)
        assert all(options[key] is others[key] for key in others)


def test_at_0_the_conditioning_is_the_one_that_came():
    entries = [conditioning("one")]
    assert moved(entries, 0.0) is entries


def test_features_that_a_text_or_the_prompt_lacks_stay():
    entries = [conditioning("one", pooled_output=None)]
    ((_, options),) = moved(entries)
    assert options["pooled_output"] is None
    clip = Clip()
    clip.widths = {"cond": (7, 6)}
    entries = [conditioning("one")]
    ((_, options),) = moved(entries, clip=clip)
    assert options["pooled_output"] is entries[0][1]["pooled_output"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"positive": " "}, "positive has no text: write your prompt"),
        ({"negative": "\n"}, "negative has no text: write your prompt"),
        ({"negative": "OLD"}, "positive and negative are the same to this model.*Write two opposites"),
        ({"strength": math.nan}, "strength is nan"),
        ({"clip": Clip(cond=(7, 8))}, "embeddings of 8 numbers, those of conditioning have 6"),
        ({"clip": Clip(pooled_output=(9,))}, "embeddings of 9 numbers, those of conditioning have 5"),
    ],
)
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_bad_input_is_refused_at_every_strength(given, words, strength):
    with pytest.raises(ValueError, match=words):
        moved([conditioning("one")], **{"strength": strength, **given})


def test_without_a_text_encoder_and_without_a_conditioning():
    with pytest.raises(ValueError, match=r"clip is empty.*Connect a Load CLIP"):
        TextDirection.execute([conditioning("one")], None, "old", "young")
    with pytest.raises(ValueError, match="conditioning is empty"):
        moved([])
