"""Captions: short natural sentences about a portrait, over a small vocabulary.

An attribute that a caption does not mention is unknown, not absent: what it says is `Caption.mentioned`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .attributes import ATTRIBUTES

PEOPLE = {
    True: ("man", "male", "gentleman", "guy"),
    False: ("woman", "female", "lady"),
    None: ("person", "face", "human"),
}
STYLE_WORDS = {
    "photo": ("a photo of", "a portrait of", "a picture of"),
    "sketch": ("a sketch of", "a pencil sketch of", "a drawing of", "a pencil drawing of"),
    "painting": ("a painting of", "an oil painting of", "a painted portrait of"),
}
# Nouns follow "with" or "wearing"; an adjective follows the person. The first of each is the attribute's plain name.
PRESENT = {
    "glasses": ("glasses", "eyeglasses", "spectacles"),
    "smile": ("a smile", "a happy smile", "a big smile"),
    "bald": ("a bald head", "no hair", "baldness"),
    "beard": ("a beard", "a full beard", "facial hair"),
    "hat": ("a hat", "a hat on the head", "a felt hat"),
    "curls": ("curls", "curly hair", "curly locks"),
    "makeup": ("makeup", "make-up", "red lipstick and makeup"),
    "gray_hair": ("gray hair", "grey hair", "white hair"),
    "bangs": ("bangs", "a fringe", "hair over the forehead"),
}
ABSENT = {
    "glasses": ("no glasses",),
    "smile": ("a serious look", "no smile"),
    "bald": ("hair on the head",),
    "beard": ("no beard", "a shaved chin"),
    "hat": ("no hat",),
    "curls": ("straight hair", "no curls"),
    "makeup": ("no makeup",),
    "gray_hair": ("coloured hair", "no gray hair"),
    "bangs": ("a free forehead", "no bangs"),
}
# An attribute as the text of a concept: its plain name, without an article.
CONCEPTS = {"male": "male", **{name: words[0].removeprefix("a ") for name, words in PRESENT.items()}}
ADJECTIVES = {"smile": ("smiling", "happy"), "bald": ("bald",), "beard": ("bearded",)}
MENTION_PRESENT, MENTION_ABSENT, MENTION_STYLE = 0.55, 0.2, 0.75


@dataclass(frozen=True)
class Caption:
    """A caption's text and what it says: {attribute: present} and the style, None where it says nothing."""

    text: str
    mentioned: dict[str, bool]
    style: str | None


def caption(
    attributes: dict[str, bool], known: dict[str, bool], style: str, rng: random.Random, empty: float = 0.1
) -> Caption:
    """A random caption of a portrait that mentions some of the attributes that can be judged.

    attributes: the portrait's ground truth; known: which can be judged; empty: share of empty captions.
    """
    if rng.random() < empty:
        return Caption("", {}, None)
    mentioned = {
        name: attributes[name]
        for name in ATTRIBUTES
        if known[name] and rng.random() < (MENTION_PRESENT if attributes[name] else MENTION_ABSENT)
    }
    if rng.random() < 0.15:  # a caption about one thing, as people write concepts
        mentioned = {n: mentioned[n] for n in rng.sample(sorted(mentioned), min(1, len(mentioned)))}
    said_style = style if rng.random() < MENTION_STYLE else None
    write = _keywords if rng.random() < 0.35 else _sentence
    return Caption(write(mentioned, said_style, rng), mentioned, said_style)


def _keywords(mentioned: dict[str, bool], style: str | None, rng: random.Random) -> str:
    words = []
    for name, present in mentioned.items():
        if name == "male":
            words.append(rng.choice(PEOPLE[present]))
        else:
            options = (PRESENT if present else ABSENT)[name] + (ADJECTIVES.get(name, ()) if present else ())
            words.append(rng.choice(options).removeprefix("a "))
    rng.shuffle(words)
    if style is not None:
        start = rng.choice(STYLE_WORDS[style]).removesuffix(" of")
        words.insert(0, start if rng.random() < 0.5 else start.split(" ", 1)[1])
    return ", ".join(words)


def _sentence(mentioned: dict[str, bool], style: str | None, rng: random.Random) -> str:
    person = rng.choice(PEOPLE[mentioned.get("male")])
    before, nouns = [], []
    for name, present in mentioned.items():
        if name == "male":
            continue
        adjectives = ADJECTIVES.get(name, ()) if present else ()
        if adjectives and rng.random() < 0.35:
            before.append(rng.choice(adjectives))
        else:
            nouns.append(rng.choice((PRESENT if present else ABSENT)[name]))
    rng.shuffle(before)
    rng.shuffle(nouns)
    start = () if style is None else (rng.choice(STYLE_WORDS[style]),)
    text = " ".join((*start, "a", *before, person))
    if nouns:
        joined = nouns[0] if len(nouns) == 1 else f"{', '.join(nouns[:-1])} and {nouns[-1]}"
        text += f" {rng.choice(('with', 'with', 'wearing', 'who has'))} {joined}"
    return text
