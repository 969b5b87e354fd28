"""A slider that lives in the text encoders: a few texts' features moved along two poles', no diffusion pass at all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ....guidance_core import along_texts, check_guidance, relative_error
from ..conditioning.direction import features
from ..page.progress import stop_if_cancelled
from .factors import Factors
from .noised import evenly
from .run import TooLittleMemory, Training
from .text import MINUS, PLUS, TARGET

NOTHING = "nothing"
# Of guidance: at 2, the node's default, ±1 is the whole difference of the poles, as Text Direction's.
SHARE = 0.5
Features = dict[str, Tensor]


class TooLittleMemoryForText(TooLittleMemory):
    def __init__(self) -> None:
        ValueError.__init__(
            self,
            "there is too little memory for one text and its way back through the text encoders: choose self-attention "
            "in layers, lower rank, or load the text encoders in fewer bits (fp8)",
        )


@dataclass
class Encoder:
    """The text encoders in training. texts: {name: text}."""

    clip: Any
    factors: Factors
    texts: Mapping[str, str]
    _tokens: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = {name: self.clip.tokenize(text) for name, text in self.texts.items()}

    def trained(self, name: str, strength: float) -> Features:
        """What they give for a text, with the slider at a strength; gradients reach the factors alone."""
        stop_if_cancelled()
        self.factors.strengths = torch.tensor([[strength]], device=self.clip.patcher.load_device)
        return features(self.clip, self._tokens[name])


class EncoderObjective:
    """Both signs of one text after another: the target and each pole along the difference, nothing where it is.

        e(c; ±1) = |e(c)| · unit(e(c) ± η/2 · Σ_p (e(c₊, p) − e(c₋, p))/|P|)    e(∅; ±1) = e(∅)

    token by token, each at the length it had, as Text Direction (`along_texts`). The paper's equation 8 in the space of
    embeddings, as Text Sliders have it; departures: the length; the poles beside the target, without which the dial
    does little behind a prompt that says the attribute; and the empty text held, since a workflow encodes its negative
    with the same clip. It is not held where it is the target. Each error is a share of the difference of the poles, so
    that features of different sizes count alike.

    texts: {name: text}, by `words.texts`; guidance: η.
    """

    def __init__(self, clip: Any, texts: Mapping[str, str], guidance: float):
        check_guidance(guidance)
        self.texts = dict(texts) if not texts[TARGET].strip() else {**texts, NOTHING: ""}
        with torch.inference_mode(False), torch.no_grad():
            frozen = {name: _cloned(features(clip, clip.tokenize(text))) for name, text in self.texts.items()}
            self.plus, self.minus = _poles(frozen)
            told_apart = [key for key, value in self.plus.items() if not torch.equal(value, self.minus[key])]
            self.frozen = {name: {key: found[key] for key in told_apart} for name, found in frozen.items()}
            share = SHARE * guidance
            self.targets = {
                sign: {name: self._moved(name, sign * share) for name in self.texts} for sign in (1.0, -1.0)
            }

    def _moved(self, name: str, strength: float) -> Features:
        own = self.frozen[name]
        if name == NOTHING:
            return own
        return {key: along_texts(value, self.plus[key], self.minus[key], strength) for key, value in own.items()}

    @property
    def given(self) -> tuple[Tensor, ...]:
        return tuple(value for found in self.frozen.values() for _, value in sorted(found.items()))

    def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]:
        """Each text once before any of them again."""
        return (evenly(rng, len(self.texts), count),)

    def loss(self, model: Encoder, *drawn: Tensor) -> Tensor:
        errors = []
        for name in (list(self.texts)[row] for row in drawn[0].tolist()):
            for sign, targets in self.targets.items():
                found = model.trained(name, sign)
                errors += [relative_error(found[key], target, self.plus[key], self.minus[key])
                           for key, target in targets[name].items()]  # fmt: skip
        return torch.stack(errors).mean()


def _cloned(found: Features) -> Features:
    return {key: value.clone() for key, value in found.items()}


def _poles(frozen: Mapping[str, Features]) -> tuple[Features, Features]:
    """Each pole's mean over the preserved texts, at the places that all these texts have."""
    sides = [[found for name, found in frozen.items() if name.startswith(f"{pole} ")] for pole in (PLUS, MINUS)]
    plus, minus = ({} for _ in sides)
    for key, first in sides[0][0].items():
        axis = 1 if first.ndim > 2 else 0
        shortest = min(found[key].shape[axis] for side in sides for found in side)
        plus[key], minus[key] = (
            torch.stack([found[key].narrow(axis, 0, shortest) for found in side]).mean(0) for side in sides
        )
    return plus, minus


@dataclass
class EncoderTraining(Training):
    """Of `clip` instead of the diffusion model. One text is in memory at a time."""

    clip: Any = None

    def run(self, until: int, go_on: Callable[[], bool] = lambda: True) -> None:
        texts = self.objective.texts  # type: ignore[attr-defined]
        encoder = Encoder(self.clip, self.factors, texts)
        self.clip.load_model(self.clip.tokenize(texts[TARGET]))
        self.steps(encoder, self.clip.cond_stage_model, until, go_on)

    def _first_scale(self) -> float:
        return 1.0  # the host computes text encoders in float32

    def _smaller(self, _: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _ask_less(self) -> None:
        raise TooLittleMemoryForText
