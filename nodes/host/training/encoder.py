"""A slider that lives in the text encoders: a few texts' features moved along two poles', no diffusion pass at all."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ....guidance_core import along_texts, check_guidance, squared_error
from ..conditioning.checks import check_poles_differ
from ..conditioning.direction import FEATURES, POOLED, features
from ..page.progress import stop_if_cancelled
from .factors import Factors
from .noised import evenly
from .run import TooLittleMemory, Training
from .text import MINUS, PLUS, TARGET

NOTHING = "nothing"
# Of guidance: at 2, the node's default, ±1 is the whole difference of the poles, as Text Direction's.
SHARE = 0.5
APART = 1e-6  # of the features' square: what a text encoder's rounding makes of equal words is below
Features = dict[str, Tensor]


@dataclass
class Encoder:
    """The text encoders in training, loaded. texts: {name: text}."""

    clip: Any
    factors: Factors
    texts: Mapping[str, str]
    _tokens: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = {name: self.clip.tokenize(text) for name, text in self.texts.items()}

    def trained(self, name: str, strength: float) -> Features:
        """What they give for a text, with the slider at a strength; gradients reach the factors alone."""
        stop_if_cancelled()
        device, network = self.clip.patcher.load_device, self.clip.cond_stage_model
        self.factors.strengths = torch.tensor([[strength]], device=device)
        # As the host's encode_from_tokens, which would load the encoders anew, on the graph's memory.
        network.reset_clip_options()
        network.set_clip_options(
            {"execution_device": device} | ({} if self.clip.layer_idx is None else {"layer": self.clip.layer_idx})
        )
        with comfy.model_management.cuda_device_context(device):
            cond, pooled, *more = network.encode_token_weights(self._tokens[name])
        return {FEATURES: cond, POOLED: pooled, **(more[0] if more else {})}


class EncoderObjective:
    """Both signs of one text after another: the target and each pole along the difference, nothing where it is.

        e(c; ±1) = |e(c)| · unit(e(c) ± η/2 · Σ_p (e(c₊, p) − e(c₋, p))/|P|)    e(∅; ±1) = e(∅)

    token by token, each at the length it had, as Text Direction (`along_texts`). The paper's equation 8 in the space of
    embeddings, as Text Sliders have it; departures: the length; the poles beside the target, without which the dial
    does little behind a prompt that says the attribute; and the empty text held, since a workflow encodes its negative
    with the same clip. It is not held where it is the target. Each error is a share of the difference of the poles, so
    that features of different sizes count alike. Features that the poles have in common are held.

    texts: {name: text}, by `words.texts`; guidance: η. Raises ValueError for texts that these encoders do not tell
    apart, or whose places do not go together, and for encoders whose weights change along the run.
    """

    def __init__(self, clip: Any, texts: Mapping[str, str], guidance: float):
        check_guidance(guidance)
        if clip.use_clip_schedule and clip.patcher.forced_hooks is not None:
            raise ValueError(
                "clip has hooks with a schedule (Set CLIP Hooks): its weights change along the run, and a slider is "
                "trained on one state of them. Connect the clip from before them, or switch schedule_clip off"
            )
        _check_chunks({name: clip.tokenize(text) for name, text in texts.items()})
        self.texts = dict(texts) if not texts[TARGET].strip() else {**texts, NOTHING: ""}
        with torch.inference_mode(False), torch.no_grad():
            frozen = {name: _cloned(features(clip, clip.tokenize(text))) for name, text in self.texts.items()}
            self.plus, self.minus = _poles(frozen)
            self.frozen = {name: {key: found[key] for key in self.plus} for name, found in frozen.items()}
            self.ones = self._ones()
            share = SHARE * guidance
            self.targets = {
                sign: {name: self._moved(name, sign * share) for name in self.texts} for sign in (1.0, -1.0)
            }

    def _ones(self) -> dict[str, float]:
        """{key: the squared error that counts as 1}: the poles' difference; where there is none, their size times what
        that difference is of it elsewhere."""
        sizes = {
            key: float((self.plus[key].square().mean() + self.minus[key].square().mean()) / 2) for key in self.plus
        }
        between = {key: float(squared_error(self.plus[key], self.minus[key])) for key in self.plus}
        shares = {key: between[key] / sizes[key] for key in sizes if sizes[key] > 0}
        apart = [share for share in shares.values() if share > APART]
        check_poles_differ(not apart, self.texts[f"{PLUS} 0"], self.texts[f"{MINUS} 0"])
        usual = sum(apart) / len(apart)
        return {key: sizes[key] * (share if share > APART else usual) for key, share in shares.items()}

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
                errors += [squared_error(found[key], targets[name][key]) / one for key, one in self.ones.items()]
        return torch.stack(errors).mean()


def _check_chunks(tokens: Mapping[str, Any]) -> None:
    """Texts of different numbers of chunks (75 words in CLIP) have different encoders' words at one place."""
    counts = {name: tuple(len(parts) for parts in of_text.values()) for name, of_text in tokens.items()}
    if len(set(counts.values())) > 1:
        longest = max(counts, key=lambda name: sum(counts[name]))
        raise ValueError(
            f"the text of {longest!r} is longer than the others, more than the 75 words that a text encoder reads at "
            "once: shorten it, or train the diffusion model"
        )


def _cloned(found: Features) -> Features:
    return {key: value.clone() for key, value in found.items()}


def _poles(frozen: Mapping[str, Features]) -> tuple[Features, Features]:
    """Each pole's mean over the preserved texts, at the places that all these texts have."""
    sides = [[found for name, found in frozen.items() if name.startswith(f"{pole} ")] for pole in (PLUS, MINUS)]
    plus, minus = ({} for _ in sides)
    for key, first in sides[0][0].items():
        axis = first.ndim - 2 if first.ndim > 2 else 0
        shortest = min(found[key].shape[axis] for side in sides for found in side)
        plus[key], minus[key] = (
            torch.stack([found[key].narrow(axis, 0, shortest) for found in side]).mean(0) for side in sides
        )
    return plus, minus


@dataclass
class EncoderTraining(Training):
    """Of `clip` instead of the diffusion model. One text is in memory at a time. needed: bytes beside the weights."""

    clip: Any = None
    needed: float = 0.0
    _alone: bool = False  # whether other models were unloaded already

    def run(self, until: int, go_on: Callable[[], bool] = lambda: True) -> None:
        texts = self.objective.texts  # type: ignore[attr-defined]
        encoder = Encoder(self.clip, self.factors, texts)
        comfy.model_management.load_models_gpu([self.clip.patcher], memory_required=int(self.needed))
        self.steps(encoder, self.clip.cond_stage_model, until, go_on)

    def _first_scale(self) -> float:
        return 1.0  # the host computes text encoders in float32

    def _smaller(self, _: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _ask_less(self) -> None:
        if self._alone:
            raise TooLittleMemory(
                "one text and its way back through the text encoders: choose self-attention in layers, lower rank, or "
                "load the text encoders in fewer bits (fp8)"
            )
        self._alone = True
        management, patcher = comfy.model_management, self.clip.patcher
        own = [loaded for loaded in management.current_loaded_models if loaded.model is patcher]
        management.free_memory(math.inf, patcher.load_device, keep_loaded=own)
