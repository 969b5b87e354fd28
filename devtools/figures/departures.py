"""What each departure from the authors' training of sliders gives: the slider without it, and after fewer steps; and
what a slider in the text encoder would be, trained through the diffusion model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .editing import pack
from .ladder import behind_encoder
from .sliders import slide
from .through import of_encoder_through_model
from .training import FIVE, of_words, pictures, prompt, silent, turned

# Kept apart from every seed that was used while the nodes were developed.
NOISE_SEED = 12_600_000
NAMES = ("smile", "gray_hair")
STEPS = (25, 50, 100, 150, 300)


def without() -> dict[str, Callable[..., Any]]:
    """{what is left out: an objective in the place of the nodes' own}"""
    own = pack("nodes.training").TextObjective
    squared_error = pack("guidance_core").squared_error

    class TargetAlone(own):
        def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]:
            rows, asked_by = super().drawn(rng, count)
            return rows, torch.zeros_like(asked_by)

    class PlusAlone(own):
        def loss(self, model: Any, *drawn: Tensor) -> Tensor:
            x, sigma, name, (plus, _) = self.goals(model, *drawn)
            return squared_error(model.trained(x, sigma, name, torch.ones(len(x), device=model.device)), plus)

    class EachItsOwn(own):
        def drawn(self, rng: torch.Generator, count: int) -> tuple[Tensor, ...]:
            """Other states for -1 than for +1, as many evaluations."""
            first, second = (super(EachItsOwn, self).drawn(rng, count) for _ in range(2))
            return tuple(torch.stack(pair, 1) for pair in zip(first, second, strict=True))

        def loss(self, model: Any, *drawn: Tensor) -> Tensor:
            errors = []
            for side, strength in enumerate((1.0, -1.0)):
                x, sigma, name, targets = self.goals(model, *(each[:, side] for each in drawn))
                found = model.trained(x, sigma, name, torch.full((len(x),), strength, device=model.device))
                errors.append(squared_error(found, targets[side]))
            return torch.stack(errors).mean()

    def any_length(*given: Any) -> Any:
        made = own(*given)
        made.sized = lambda target, _: target
        return made

    return {
        "target alone": TargetAlone, "plus alone": PlusAlone, "states of their own": EachItsOwn,
        "any length": any_length,
    }  # fmt: skip


@contextlib.contextmanager
def replaced(name: str, value: Any) -> Iterator[None]:
    """A name of the nodes' module."""
    module = pack("nodes.training")
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def one_run(*given: Any) -> Any:
    """A bank of a single trajectory."""
    return pack("nodes.host.training.bank").walked(*given, trajectories=1)


def figures(lab: Any, judge: Any, quick: bool) -> dict[str, Any]:
    """{attribute: {way: its dial, and the seconds it took to make}}."""
    seeds = range(NOISE_SEED, NOISE_SEED + (2 if quick else 24))
    result: dict[str, Any] = {}
    for name in NAMES:
        plain = pictures(lab, lab.model, seeds, prompt(name))
        made: dict[str, tuple[dict[str, Tensor], float]] = {}
        for steps in (4,) if quick else STEPS:
            made[f"{steps} steps"] = of_words(lab, name, steps=steps)
        few = {"steps": 4} if quick else {}
        for way, objective in without().items():
            with replaced("TextObjective", objective):
                made[way] = of_words(lab, name, **few)
        with replaced("walked", one_run):
            made["states of one run"] = of_words(lab, name, **few)
        result[name] = {
            way: {
                "seconds": seconds,
                **turned(judge, name, {
                    s: pictures(lab, slide(lab, slider, s), seeds, prompt(name)) if s else plain for s in FIVE
                }),
            }
            for way, (slider, seconds) in made.items()
        }  # fmt: skip
        result[name] |= in_encoder(lab, judge, name, seeds, few)
    return result


def in_encoder(lab: Any, judge: Any, name: str, seeds: range, few: dict[str, Any]) -> dict[str, Any]:
    """A slider in the text encoder by both ways, on the prompt that says the attribute and on one that does not."""
    made = {
        "encoder": of_words(lab, name, train="text encoder", **few),
        "encoder through model": of_encoder_through_model(lab, name, **few),
    }
    return {
        f"{way}{more}": {
            "seconds": seconds,
            **turned(judge, name, {s: behind_encoder(lab, slider, s, seeds, text) for s in FIVE}),
        }
        for way, (slider, seconds) in made.items()
        for text, more in ((prompt(name), ""), (silent(name), ", silent prompt"))
    }
