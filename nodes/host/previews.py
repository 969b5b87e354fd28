"""Pictures that a node shows under itself."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import Any

import latent_preview
import numpy as np
import torch
from torch import Tensor

from .strips import strip

TILE, CAPTION = 256, 60  # pixels of a tile's shorter side, letters of its caption
TINT = (0.95, 0.15, 0.35)


def backdrop(model: Any, samples: Tensor, image: Tensor | None) -> Tensor:
    """What a mask is shown over, [N, H, W, 3]: the picture if there is one, else the latent in the approximate colours
    of its own format (middle gray for a format without any)."""
    if image is not None:
        return image[..., :3].cpu().float()
    layout = model.get_model_object("latent_format")
    return latent_colours(layout, layout.process_in(samples.cpu().float()))


def latent_colours(layout: Any, internal: Tensor) -> Tensor:
    """A latent in the sampler's own space, in the approximate colours of its format: [N, h, w, 3]."""
    frames = internal.movedim(2, 1).flatten(0, 1) if internal.ndim == 5 else internal
    if layout.latent_rgb_factors is None:
        return torch.full((len(frames), *frames.shape[-2:], 3), 0.5)
    previewer = latent_preview.Latent2RGBPreviewer(
        layout.latent_rgb_factors, layout.latent_rgb_factors_bias, layout.latent_rgb_factors_reshape
    )
    pictures = [np.array(previewer.decode_latent_to_preview(frame[None])) for frame in frames]
    return torch.from_numpy(np.stack(pictures)).float() / 255


def masked_picture(pictures: Tensor, mask: Tensor) -> Tensor:
    """Masks [N, H, W] in colour over pictures [M, h, w, 3] (repeated or cut to N, scaled to fit): [N, H, W, 3]."""
    pictures = torch.nn.functional.interpolate(pictures.movedim(-1, 1), size=mask.shape[-2:], mode="bilinear")
    rows = (torch.arange(len(mask)) * len(pictures)) // len(mask)
    weight = 0.6 * mask[:, None]
    tint = torch.tensor(TINT).reshape(1, 3, 1, 1)
    return (pictures[rows] * (1 - weight) + tint * weight).movedim(1, -1).clamp(0, 1)


def activity_tiles(pictures: Tensor, maps: Tensor, names: Sequence[str]) -> Tensor:
    """Where each concept acted, over the picture: strips with a tile for each concept, named, [N, H, W, 3].

    pictures: [N, h, w, 3]; maps: [N * K, H, W], picture by picture, then concept (each shown relative to its largest
    value); names: the K concepts'.
    """
    largest = maps.amax((1, 2), keepdim=True).clamp_min(1e-6)
    scale = TILE / min(maps.shape[-2:])
    size = [round(side * scale) for side in maps.shape[-2:]]
    shown = torch.nn.functional.interpolate((maps / largest)[:, None], size=size, mode="nearest")[:, 0]
    tiles = masked_picture(pictures.repeat_interleave(len(names), 0), shown)
    # The font has English letters only.
    captions = [name if name.isascii() else f"concept {i}" for i, name in enumerate(names, 1)]
    captions = [shorten(caption, CAPTION, placeholder="...") for caption in captions]
    return torch.cat([strip(rows, captions) for rows in tiles.split(len(names))])
