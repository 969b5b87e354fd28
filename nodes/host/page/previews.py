"""Pictures that a node shows under itself, and what the page draws over them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths
import latent_preview
import numpy as np
import torch
from comfy_api.latest import ui
from PIL import Image
from torch import Tensor

from ..files import tensors
from .strips import strip

TILE, MOST_SHOWN = 256, 8  # pixels of a tile's shorter side; pictures of a batch
TINT = (0.95, 0.15, 0.35)


def backdrop(model: Any, samples: Tensor, image: Tensor | None) -> Tensor:
    """What a mask is shown over, [N, H, W, 3]: the picture if there is one, else the latent in the approximate colours
    of its own format (middle gray for a format without any)."""
    if image is not None:
        return in_colour(image, "image").cpu().float()
    layout = model.get_model_object("latent_format")
    return latent_colours(layout, layout.process_in(samples.cpu().float()))


def in_colour(image: Tensor, name: str) -> Tensor:
    """An IMAGE [N, H, W, C] of one channel (gray), three, or four (with transparency) as [N, H, W, 3].

    Raises ValueError, with the input's name, for any other.
    """
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{name} has the shape {list(image.shape)}; it must be pictures [N, height, width, 3], gray ones [..., 1] "
            "or ones with transparency [..., 4]. Connect the IMAGE of Load Image or VAE Decode"
        )
    return image.expand(*image.shape[:-1], 3) if image.shape[-1] == 1 else image[..., :3]


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


def one_frame(latent: Tensor) -> Tensor:
    """A latent [B, C, ..., h, w] with the middle frame only of each video in it."""
    return latent[:, :, latent.shape[2] // 2][:, :, None] if latent.ndim == 5 else latent


def live_activity(layout: Any, denoised: Tensor, maps: Tensor, titles: Sequence[str]) -> Image.Image:
    """Where each concept has acted so far, over the first picture of a prediction [B, C, ..., h, w] in the sampler's
    own space. maps: [B * K, h, w], picture by picture, then concept; titles: the K concepts'."""
    picture = latent_colours(layout, one_frame(denoised[:1]).cpu().float())
    tiles = activity_tiles(picture, maps[: len(titles)], titles)
    return Image.fromarray((tiles[0] * 255).round().byte().numpy())


def mask_shown(pictures: Tensor, mask: Tensor, heat: Tensor, threshold: float, grow: int, node: Any) -> dict[str, Any]:
    """What DiffEdit Mask sends to the page: under `images` the masks [N, H, W] over the pictures [N, H, W, 3], which
    every client can show; under `outline` what web/diffedit_mask.js draws it from. heat: [N, h, w], before the
    threshold; node: its class."""
    outline = {
        "pictures": ui.PreviewImage(pictures).values,
        "heat": heat_file(heat),
        "threshold": threshold,
        "grow": grow,
    }
    return ui.PreviewImage(masked_picture(pictures, mask), cls=node).as_dict() | {"outline": [outline]}


def fitted_pictures(pictures: Tensor, count: int, size: Sequence[int]) -> Tensor:
    """Pictures [M, h, w, 3], repeated or cut to count and scaled to size (H, W): [count, H, W, 3]."""
    scaled = torch.nn.functional.interpolate(pictures.movedim(-1, 1), size=list(size), mode="bilinear").movedim(1, -1)
    return scaled[(torch.arange(count) * len(pictures)) // count]


def masked_picture(pictures: Tensor, mask: Tensor) -> Tensor:
    """Masks [N, H, W] in colour over pictures [M, h, w, 3] (repeated or cut to N, scaled to fit): [N, H, W, 3]."""
    weight = 0.6 * mask[..., None]
    pictures = fitted_pictures(pictures, len(mask), mask.shape[-2:])
    return (pictures * (1 - weight) + torch.tensor(TINT) * weight).clamp(0, 1)


def heat_file(heat: Tensor) -> dict[str, str]:
    """Heat maps [N, h, w] as a temporary file that the page reads, named as the host's own results are.

    All 32 bits of a value: a rounded one could fall on the other side of the threshold. No picture: some browsers
    change what a page reads back from one, so that it cannot be recognised by it.
    """
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    name = f"heat_{uuid.uuid4().hex}.safetensors"
    tensors.write(folder / name, {"heat": heat})
    return {"filename": name, "subfolder": "", "type": "temp"}


def activity_tiles(pictures: Tensor, maps: Tensor, names: Sequence[str]) -> Tensor:
    """Where each concept acted, over the picture: strips with a tile for each concept, named, of the first eight
    pictures of a batch, [N, H, W, 3].

    pictures: [N, h, w, 3]; maps: [N * K, H, W], picture by picture, then concept (each shown relative to its largest
    value); names: the K concepts'.
    """
    pictures, maps = pictures[:MOST_SHOWN], maps[: MOST_SHOWN * len(names)]
    scale = TILE / min(maps.shape[-2:])
    size = [round(side * scale) for side in maps.shape[-2:]]
    shown = torch.nn.functional.interpolate(maps[:, None], size=size, mode="nearest")[:, 0]
    shown = shown / shown.amax((1, 2), keepdim=True).clamp_min(1e-6)
    tiles = masked_picture(pictures.repeat_interleave(len(names), 0), shown)
    return torch.cat([strip(rows, list(names)) for rows in tiles.split(len(names))])
