"""Masks between picture space and the latent's cells."""

from __future__ import annotations

import torch
from torch import Tensor

from .concept import ConceptInput

ROUNDING = 1e-4


def latent_mask(concept: ConceptInput, shape: torch.Size, frame_ratio: int = 1) -> Tensor | None:
    """The concept's weights [B or 1, 1, ..., h, w] on a latent of the given shape [B, C, ..., h, w], from its own mask
    and from its conditioning's mask and area. None means everywhere. frame_ratio: picture frames in a latent frame.

    Raises ValueError where a mask's batch fits neither the batch nor a single video's frames.
    """
    weights: Tensor | None = None
    if concept.mask is not None:
        weights = to_cells(concept.mask, shape, frame_ratio, f"concept {concept.name!r}: mask")
    options = concept.options if len(concept.conditioning) == 1 else {}
    if "mask" in options:
        found = to_cells(options["mask"], shape, frame_ratio, f"concept {concept.name!r}: the conditioning's mask")
        found = found * float(options.get("mask_strength", 1.0))
        weights = found if weights is None else weights * found
    if "area" in options:
        found = _area(options["area"], shape)
        weights = found if weights is None else weights * found
    return weights


def to_cells(mask: Tensor, shape: torch.Size, frame_ratio: int, what: str) -> Tensor:
    """Average a mask [N, H, W] (or [H, W]) over the latent's cells."""
    mask = mask.detach().cpu().reshape(-1, *mask.shape[-2:]).float()
    batch, middle, cells = shape[0], shape[2:-2], shape[-2:]
    frames = middle[0] if len(middle) == 1 else 1
    small = torch.nn.functional.interpolate(mask[:, None], size=tuple(cells), mode="area")  # [N, 1, h, w]
    if len(small) in (1, batch):
        return small.reshape(len(small), 1, *[1] * len(middle), *cells)
    # Video models encode the first picture alone and the others in groups.
    pictures = 1 + (frames - 1) * frame_ratio
    if batch == 1 and len(middle) == 1 and len(small) in (frames, pictures):
        if len(small) != frames:
            groups = small[1:].reshape(frames - 1, frame_ratio, 1, *cells).mean(1)
            small = torch.cat([small[:1], groups])
        return small.transpose(0, 1)[None]  # [1, 1, T, h, w]
    raise ValueError(
        f"{what} has a batch of {len(mask)}, the latent a batch of {batch}"
        + (f" with {pictures} frames" if len(middle) == 1 else "")
        + "; connect one mask, or one for each picture"
    )


def fitted(mask: Tensor, shape: torch.Size, size: tuple[int, int]) -> Tensor:
    """A mask [N, H, W] cut to the part of its picture that the latent holds (the VAE Encode node cuts the edges off).

    shape: the latent's; size: (H, W) of the picture it decodes to. Raises ValueError for a mask of another aspect, or
    values outside [0, 1] by more than rounding.
    """
    if not torch.isfinite(mask).all():
        raise ValueError("mask holds NaN or infinite values")
    if mask.min() < -ROUNDING or mask.max() > 1 + ROUNDING:
        raise ValueError(
            f"mask holds values from {float(mask.min()):.3g} to {float(mask.max()):.3g}; they must be from 0 (stays) "
            "to 1 (changes)"
        )
    mask = mask.reshape(-1, *mask.shape[-2:]).clamp(0, 1)
    height, width = mask.shape[-2:]
    down, right = (height - size[0]) // 2, (width - size[1]) // 2
    cells = shape[-2:]
    if 0 <= height - size[0] < size[0] / cells[0] and 0 <= width - size[1] < size[1] / cells[1]:
        return mask[:, down : down + size[0], right : right + size[1]]
    # Another resolution of the same picture: the same aspect to within one cell.
    stretch = (height / size[0]) / (width / size[1])
    if max(stretch, 1 / stretch) > 1 + 1 / min(cells):
        raise ValueError(
            f"mask is {width}x{height} pixels, the inverted picture {size[1]}x{size[0]}: they do not show the same "
            "picture. Connect the mask of that picture, or scale and crop it in the same way"
        )
    return mask


def to_pictures(cells: Tensor, size: tuple[int, int], frame_ratio: int) -> Tensor:
    """Values of cells [B, h, w], [B, 1, h, w] or of one video [1, T, h, w] at picture size: [N, H, W].

    A video's latent frames stand for one picture (the first) or frame_ratio pictures each.
    """
    if cells.ndim > 3 and cells.shape[1] == 1:
        cells = cells[:, 0]
    elif cells.ndim > 3:
        first, others = cells[0].split([1, cells.shape[1] - 1])
        cells = torch.cat([first, others.repeat_interleave(frame_ratio, dim=0)])
    return torch.nn.functional.interpolate(cells[:, None], size=size, mode="nearest")[:, 0]


def _area(area: tuple, shape: torch.Size) -> Tensor:
    """1 inside a conditioning's area (cells, or shares of the picture), 0 outside."""
    sizes = shape[2:]
    if area[0] == "percentage":
        dims = (len(area) - 1) // 2
        values = [
            max(1, round(share * size)) if i < dims else round(share * size)
            for i, (share, size) in enumerate(zip(area[1:], (*sizes[-dims:], *sizes[-dims:]), strict=True))
        ]
    else:
        dims = len(area) // 2
        values = list(area)
    weights = torch.zeros(1, 1, *sizes)
    inside = [slice(None)] * (2 + len(sizes) - dims)
    inside += [slice(values[dims + i], values[dims + i] + values[i]) for i in range(dims)]
    weights[tuple(inside)] = 1.0
    return weights
