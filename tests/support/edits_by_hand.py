"""For tests of SEGA beside the host's other nodes: ComfyUI's own UNet, and what the edit must be, worked out apart.

One Euler step to 0 shows a single evaluation: `once` is the model's x0, and two of them differ by σ·γ. γ by hand comes
from estimates that are made one at a time, in runs without SEGA.
"""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import tiny_models
import torch
from comfy.ldm.modules.attention import optimized_attention
from semantic_steering.nodes.sega import SEGAConceptConditioning, SEGAGuidance

MODEL = tiny_models.unet_model()
POSITIVE, NEGATIVE, TARGET = tiny_models.unet_cond(1), tiny_models.unet_cond(2), tiny_models.unet_cond(3)
START = tiny_models.noise(1, 4, 8, 8)
STEP = torch.tensor([2.0, 0.0])
CFG, SCALE, THRESHOLD = 4.0, 2.0, 0.5
CLOSE = 1e-4
ACTS = 0.01


def compat(row: str, feature: str = "SEGA") -> Any:
    """The mark of a cell in the table of combinations."""
    return pytest.mark.compat(row=row, feature=feature, table="combinations")


def chain(conditioning: list = TARGET, scale: float = SCALE, start: float = 0.0, end: float = 1.0, **options: Any):
    options.setdefault("threshold", THRESHOLD)
    return SEGAConceptConditioning.execute(
        conditioning, "add", scale, start_percent=start, end_percent=end, **options
    ).args[0]


def steered(model: Any, concepts: tuple | None = None, base: str = "auto", momentum: float = 0.0) -> Any:
    """The MODEL behind SEGA Guidance."""
    return SEGAGuidance.execute(model, chain() if concepts is None else concepts, momentum, base=base).args[0]


NEUTRAL = chain(scale=0.0)


def run(model: Any, positive: list = POSITIVE, negative: list | None = NEGATIVE, steps: int = 4, **options: Any):
    """A whole run."""
    return tiny_models.sample_cfg(model, positive, negative, CFG, START, tiny_models.schedule(model, steps), **options)


def once(model: Any, positive: list = POSITIVE, negative: list | None = NEGATIVE, cfg: float = CFG) -> torch.Tensor:
    """x0 of one evaluation."""
    return tiny_models.sample_cfg(model, positive, negative, cfg, START, STEP)


def estimate(model: Any, conditioning: list) -> torch.Tensor:
    """x0 under a conditioning alone."""
    return once(model, conditioning, None, 1.0)


def gamma(concept: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """γ from the x0 of a concept and of its base: scale·Δn where |Δn| reaches its channel's quantile."""
    difference = (base - concept) / STEP[0]
    limits = numpy.quantile(difference.abs().double().flatten(2).numpy(), THRESHOLD, axis=-1)
    kept = difference.abs().double() >= torch.tensor(limits)[..., None, None]
    return SCALE * difference * kept


def found_gamma(plain: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    return tiny_models.added_term(plain, edited, STEP)


def assert_beside(model: Any, bare: torch.Tensor, **options: Any) -> None:
    """Another node's MODEL acts, neutral concepts keep its bits, and a concept acts beside it.

    bare: the run without that node.
    """
    alone = run(model, **options)
    assert tiny_models.relative(alone, bare) > ACTS
    assert torch.equal(run(steered(model, NEUTRAL, momentum=0.1), **options), alone)
    assert tiny_models.relative(run(steered(model, momentum=0.1), **options), alone) > ACTS


class ImagePrompt:
    """A patch like IP-Adapter's: tokens of a picture for positive's chunks, others for the negative's, by index."""

    def __init__(self):
        self.tokens = [tiny_models.noise(1, 3, 64, seed=50), torch.zeros(1, 3, 64)]
        self.seen: list[list[int]] = []

    def __call__(self, q, k, v, extra_options):
        places = extra_options["cond_or_uncond"]
        self.seen.append(list(places))
        rows = len(q) // len(places)
        tokens = torch.cat([self.tokens[place].repeat(rows, 1, 1) for place in places])
        heads = extra_options["n_heads"]
        return optimized_attention(q, k, v, heads) + optimized_attention(q, tokens, tokens, heads)


def with_image_prompt(model):
    model, patch = model.clone(), ImagePrompt()
    model.set_model_attn2_replace(patch, "middle", 0)
    return model, patch
