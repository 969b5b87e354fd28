"""Five ways to the same dial, from the one that is there at once to the one that is trained on pictures."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from demo.sliders import TARGET

from .editing import pack
from .sliders import slide
from .training import (
    FIVE,
    NAMES,
    encoded,
    of_words,
    pictures,
    pictures_of,
    prompt,
    render_in_parts,
    silent,
    trained,
    turned,
)

# Kept apart from every seed that was used while the nodes were developed.
NOISE_SEED, PAIR_SEED = 12_500_000, 96_004
PAIRS = 16


def in_prompt(name: str) -> tuple[str, str]:
    """(positive, negative) of Text Direction: the prompt, and the same with the attribute's opposite."""
    from demo.portraits.captions import ABSENT, PRESENT

    return prompt(name), prompt(name).replace(PRESENT[name][0], ABSENT[name][0])


def direction(lab: Any, name: str) -> Callable[[float], Any]:
    """The prompt's conditioning at a strength, by Text Direction."""
    node, own = pack("nodes.text_direction").TextDirection, lab.encode(prompt(name))
    return lambda strength: node.execute(own, lab.clip, *in_prompt(name), strength).result[0]


def plain_direction(lab: Any, name: str) -> Callable[[float], Any]:
    """The same with every token at the length that the sum has."""
    ((own, options),), (plus, minus) = lab.encode(prompt(name)), in_prompt(name)
    difference = lab.encode(plus)[0][0] - lab.encode(minus)[0][0]
    return lambda strength: [[own + strength * difference, options]]


def behind_encoder(lab: Any, slider: dict[str, Tensor], strength: float, seeds: range, text: str) -> Tensor:
    """Pictures with a slider in the text encoder, behind which both prompts are encoded."""
    other, node = copy.copy(lab), pack("nodes.sliders").SliderLoRALoader
    other.clip = node.execute(model=lab.model, slider=slider, strength=strength, clip=lab.clip).result[1]
    return pictures(other, other.model, seeds, text)


def attribute_pairs(lab: Any, name: str, n: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(without, with): the renders of the same people."""
    from demo.portraits.renderer import sample

    portraits = sample(n, torch.Generator().manual_seed(PAIR_SEED)).with_style("photo")
    for hiding in {"hat", "bald"} - {name}:
        portraits = portraits.with_attribute(hiding, False)
    sides = [render_in_parts(portraits.with_attribute(name, present)) for present in (False, True)]
    return encoded(lab, sides[0]), encoded(lab, sides[1])


def figures(lab: Any, judge: Any, quick: bool) -> dict[str, Any]:
    """{attribute: {way: its dial, and the seconds it took to make}}."""
    seeds, result = range(NOISE_SEED, NOISE_SEED + (2 if quick else 24)), {}
    few: dict[str, Any] = {"steps": 4} if quick else {}
    for name in NAMES:
        plain, unsaid = (pictures(lab, lab.model, seeds, text) for text in (prompt(name), silent(name)))
        ways = {}  # by title: seconds, the pictures at a strength, those without

        def of_slider(slider: dict[str, Tensor], text: str) -> Callable[[float], Tensor]:
            return lambda strength: pictures(lab, slide(lab, slider, strength), seeds, text)

        def of_encoder(slider: dict[str, Tensor], text: str) -> Callable[[float], Tensor]:
            return lambda strength: behind_encoder(lab, slider, strength, seeds, text)

        for way, directed in (("plain direction", plain_direction), ("direction", direction)):
            started, moved = time.perf_counter(), directed(lab, name)
            moved(1.0)
            seconds = time.perf_counter() - started
            ways[way] = seconds, lambda s, moved=moved: pictures_of(lab, lab.model, seeds, moved(s)), plain
        slider, seconds = of_words(lab, name, **few)
        ways["words"] = seconds, of_slider(slider, prompt(name)), plain
        ways["words, silent prompt"] = seconds, of_slider(slider, silent(name)), unsaid
        slider, seconds = of_words(lab, name, train="text encoder", **few)
        ways["encoder"] = seconds, of_encoder(slider, prompt(name)), plain
        ways["encoder, silent prompt"] = seconds, of_encoder(slider, silent(name)), unsaid
        with torch.inference_mode():
            before, after = attribute_pairs(lab, name, PAIRS)
            target = lab.encode(TARGET)
        slider, seconds = trained("SliderTrainImages", lab.model, before, after, conditioning=target, **few)
        ways["pairs"] = seconds, of_slider(slider, prompt(name)), plain
        ways["pairs, silent prompt"] = seconds, of_slider(slider, silent(name)), unsaid
        result[name] = {
            way: {"seconds": seconds, **turned(judge, name, {s: at(s) if s else without for s in FIVE})}
            for way, (seconds, at, without) in ways.items()
        }
    return result
