"""The rendered pictures, made once and kept in the training folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..config import CONFIG, PICTURE
from ..files import whole
from ..portraits.renderer import Portraits, render, sample


@dataclass(frozen=True)
class Renders:
    """Pictures uint8 [N, 3, S, S] and who is on them."""

    portraits: Portraits
    pictures: Tensor


def render_many(n: int, seed: int, chunk: int = 128) -> Renders:
    """n random portraits with their pictures."""
    portraits = sample(n, torch.Generator().manual_seed(seed))
    rows = torch.arange(n).split(chunk)
    pictures = torch.cat([(render(portraits[r], PICTURE) * 255).round().byte() for r in rows])
    return Renders(portraits, pictures)


def renders(folder: Path, split: str) -> Renders:
    """The `train` or `held_out` pictures, from the folder if they were made before.

    The two splits are drawn from different seeds.
    """
    config = CONFIG.renders
    n, seed = (config.train, config.seed) if split == "train" else (config.held_out, config.seed + 1)
    file = folder / f"renders-{split}-{n}-{seed}.pt"
    if file.exists():
        stored = torch.load(file, weights_only=True)
        return Renders(Portraits(*stored["portraits"]), stored["pictures"])
    made = render_many(n, seed)
    folder.mkdir(parents=True, exist_ok=True)
    who = made.portraits
    with whole(file) as part:
        torch.save({"portraits": (who.attributes, who.style, who.nuisance), "pictures": made.pictures}, part)
    return made


def as_floats(pictures: Tensor) -> Tensor:
    """uint8 pictures as floats in [0, 1]."""
    return pictures.float() / 255
