"""Pictures that a node shows under itself."""

from __future__ import annotations

from typing import Any

import latent_preview
import numpy as np
import torch
from torch import Tensor

TINT = (0.95, 0.15, 0.35)


def backdrop(model: Any, samples: Tensor, image: Tensor | None) -> Tensor:
    """What a mask is shown over, [N, H, W, 3]: the picture if there is one, else the latent in the approximate colours
    of its own format (middle gray for a format without any)."""
    if image is not None:
        return image[..., :3].cpu().float()
    layout = model.get_model_object("latent_format")
    internal = layout.process_in(samples.cpu().float())
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
