"""The renderer's ground truth, the exclusion tables and the captions."""

from __future__ import annotations

import random

import pytest
import torch

from demo.portraits.attributes import ATTRIBUTES, HIDDEN_BY_HAT, HIDDEN_BY_SKETCH, INDEX, STYLES, judgeable
from demo.portraits.captions import ABSENT, PEOPLE, PRESENT, caption
from demo.portraits.renderer import region, render, sample
from demo.training.text import random_captions


def people(n: int = 24, seed: int = 5):
    return sample(n, torch.Generator().manual_seed(seed))


def test_pictures_are_pictures_and_depend_on_nothing_but_their_description():
    who = people()
    pictures = render(who)
    assert pictures.shape == (24, 3, 128, 128)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert pictures.std() > 0.1
    assert torch.equal(pictures, render(who))
    assert torch.equal(pictures[3:5], render(who[3:5]))


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_changes_its_region_and_nothing_else(name):
    """Where the attribute can be judged it shows, and outside its region the two renders are the same."""
    who = people(40)
    on, off = who.with_attribute(name, True), who.with_attribute(name, False)
    where = region(who, name)
    difference = (render(on) - render(off)).abs().amax(1)
    assert difference[~where].max() <= 1 / 255
    known = judgeable(on.attributes, on.style)[:, INDEX[name]] & judgeable(off.attributes, off.style)[:, INDEX[name]]
    known &= on.attributes[:, INDEX[name]]  # a bald head keeps its curls off
    assert known.any()
    assert (where[known].flatten(1).sum(1) > 20).all()


def test_bald_excludes_hair_and_what_is_hidden_is_not_judged():
    who = people(400)
    bald = who.attributes[:, INDEX["bald"]]
    assert bald.any()
    for name in ("curls", "bangs", "gray_hair"):
        assert not who.attributes[bald, INDEX[name]].any()
    known = judgeable(who.attributes, who.style)
    hat, sketch = who.attributes[:, INDEX["hat"]], who.style == STYLES.index("sketch")
    for name in ATTRIBUTES:
        hidden = torch.zeros(400, dtype=torch.bool)
        hidden |= hat if name in HIDDEN_BY_HAT else False
        hidden |= sketch if name in HIDDEN_BY_SKETCH else False
        assert torch.equal(known[:, INDEX[name]], ~hidden)


def test_captions_say_only_what_is_true_and_can_be_judged():
    who = people(600)
    known = judgeable(who.attributes, who.style)
    said = random_captions(who, random.Random(0), empty=0.1)
    empty = sum(not c.text for c in said)
    assert 30 < empty < 90
    for i, written in enumerate(said):
        for name, present in written.mentioned.items():
            assert bool(who.attributes[i, INDEX[name]]) == present
            assert bool(known[i, INDEX[name]])
        assert written.style in (None, STYLES[int(who.style[i])])
    mentions = {name: sum(name in c.mentioned for c in said) for name in ATTRIBUTES}
    assert min(mentions.values()) > 40, "every attribute is spoken of"
    assert max(mentions.values()) < 500, "and sometimes left open"


def test_a_caption_contains_the_words_of_what_it_mentions():
    attributes = {name: name in ("glasses", "beard", "male") for name in ATTRIBUTES}
    known = dict.fromkeys(ATTRIBUTES, True)
    texts = {}
    for seed in range(200):
        written = caption(attributes, known, "photo", random.Random(seed), empty=0.0)
        texts[written.text] = written
        if "male" in written.mentioned:
            assert any(word in written.text.split() or word in written.text for word in PEOPLE[True])
        if "glasses" in written.mentioned:
            assert any(words.removeprefix("a ") in written.text for words in PRESENT["glasses"])
        if "hat" in written.mentioned:
            assert any(words in written.text for words in ABSENT["hat"])
    assert len(texts) > 100, "synonyms and word order vary"
