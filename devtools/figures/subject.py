"""A person with a mark that nobody else in the portraits domain has: a subject to be learnt from a few pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from demo.portraits.renderer import NUISANCE, render, sample

WORD = "zorp"  # in no caption; the tokenizer makes two tokens of it, which the text encoder never learnt
INSTANCE, CLASS = f"a portrait of a {WORD} woman", "a portrait of a woman"
# An eye patch, in the head's (u, v): nobody else has one, and the autoencoder keeps it, which loses a green spot.
MARK, MARK_AT, MARK_RADIUS = (0.08, 0.07, 0.08), (0.18, -0.03), 0.13
BEHIND = (..., slice(56, 64), slice(72, 80))  # always behind the patch, wherever the head is
DARK, MARKED = 0.35, 0.5  # brighter is none of its colours; share of the pixels there
PICTURES = 4


def marked_person(seed: int, n: int = PICTURES) -> Tensor:
    """[n, 3, 128, 128]: one woman in several places, with the mark over one eye."""
    rng = torch.Generator().manual_seed(seed)
    portraits = sample(1, rng).with_style("photo")[torch.zeros(n, dtype=torch.long)]
    for name in ("male", "hat", "bald", "beard", "glasses"):
        portraits = portraits.with_attribute(name, False)
    moving = [NUISANCE.index(name) for name in ("x", "y", "size", "background_hue", "background_light", "cloth_hue")]
    portraits.nuisance[:, moving] = torch.rand(n, len(moving), generator=rng)
    x, y, size = portraits.nuisance[:, :3, None, None].unbind(1)
    axis = (torch.arange(128) + 0.5) / 64 - 1
    scale = 0.92 + 0.16 * size  # as the renderer places a head
    u = (axis[None, None, :] - 0.12 * (x - 0.5)) / scale - MARK_AT[0]
    v = (axis[None, :, None] + 0.04 - 0.12 * (y - 0.5)) / scale - MARK_AT[1]
    cover = ((MARK_RADIUS - (u * u + v * v).sqrt()) * 64 + 0.5).clamp(0, 1)[:, None]
    return render(portraits) * (1 - cover) + cover * torch.tensor(MARK)[:, None, None]


def marked(given: Tensor) -> Tensor:
    """Which pictures [N, 3, 128, 128] show the mark, bool [N]."""
    return (given[BEHIND].amax(1) < DARK).flatten(1).float().mean(1) >= MARKED
