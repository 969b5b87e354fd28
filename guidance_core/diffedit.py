"""DiffEdit: a mask from two prompts, and a decode that leaves the rest alone (Couairon et al., 2023,
arXiv:2210.11427, steps 1 and 3 of figure 2).

Also known as: auto mask, mask from text. The mask is where the noise estimates for a source and a target text differ
at one noise level; it is found without any segmentation model and without the object being there.

Departures from diffusers' port, each where it stands: no classifier-free guidance in the mask, a mean over each
picture instead of the batch, the decode blended with the SAME level's latent.

Legend: B batch, n maps (independent noises), C channels, S... spatial axes (height and width, or time too); Δn a
difference of noise estimates (`noise_difference`), M a mask in [0, 1], z_i an inversion's state at level i.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .inversion import Denoise, slope


def check_mask_settings(strength: float, threshold: float, maps: int, clamp: float, grow: int, blur: int) -> None:
    """Raises ValueError for a setting of the mask that is out of its range or not a number."""
    if not (math.isfinite(strength) and 0.0 < strength <= 1.0):
        raise ValueError(f"strength is {strength}; it must be above 0 and at most 1 (the paper: 0.5)")
    if not (math.isfinite(threshold) and 0.0 <= threshold <= 1.0):
        raise ValueError(f"threshold is {threshold}; it must be a number from 0 to 1 (the paper: 0.5)")
    if maps < 1:
        raise ValueError(f"maps is {maps}; at least 1 noise is needed (the paper: 10)")
    if not (math.isfinite(clamp) and clamp > 0.0):
        raise ValueError(f"clamp is {clamp}; it must be a number above 0 (the authors' port: 3)")
    for name, value in (("grow", grow), ("blur", blur)):
        if value < 0:
            raise ValueError(f"{name} is {value}; it must be 0 or more pixels")


def difference_map(differences: Tensor, batch: int) -> Tensor:
    """mean over maps and channels of |Δn|: [n·B, C, S...] (map by map, then picture) to [B, S...], float32.

    Classifier-free guidance with a common negative multiplies every difference by cfg, which `heatmap` removes: it
    would only double the evaluations. Likewise the factor between Δn, Δx0 and Δv at one noise level.
    """
    return differences.float().abs().mean(1).unflatten(0, (-1, batch)).mean(0)


def heatmap(difference: Tensor, clamp: float) -> Tensor:
    """min(m, c·mean m)/(c·mean m) in [0, 1] for each picture of [B, S...]; 0 where a picture has no difference.

    The paper removes outliers and rescales to [0, 1]; clamping at c times the mean is the authors' way of doing it. So
    a cell reaches 1 at c times its picture's mean. diffusers takes the mean over the whole batch, which makes a
    picture's mask depend on its neighbours.
    """
    limit = clamp * difference.flatten(1).mean(1).reshape(-1, *[1] * (difference.ndim - 1))
    # 0/0 where two texts mean the same to the model: no difference, no mask.
    return torch.where(limit > 0, torch.minimum(difference, limit) / limit, torch.zeros_like(difference))


def binarise(heat: Tensor, threshold: float) -> Tensor:
    """1 where the heat map is above the threshold, else 0: m > threshold·c·mean m."""
    return (heat > threshold).to(heat.dtype)


def grow_mask(mask: Tensor, pixels: int) -> Tensor:
    """A mask [..., H, W] with every region widened by `pixels` in all directions (a square's dilation)."""
    if pixels == 0:
        return mask
    size = 2 * pixels + 1
    flat = mask.reshape(-1, 1, *mask.shape[-2:])
    wide = torch.nn.functional.max_pool2d(flat, (1, size), stride=1, padding=(0, pixels))
    return torch.nn.functional.max_pool2d(wide, (size, 1), stride=1, padding=(pixels, 0)).reshape(mask.shape)


def blur_mask(mask: Tensor, pixels: int) -> Tensor:
    """A mask [..., H, W] whose edges fade over `pixels` to either side: a Gaussian of σ = pixels/2 cut off there.

    Further than that from an edge nothing changes, so 0 stays exactly 0 and 1 exactly 1.
    """
    if pixels == 0:
        return mask
    offsets = torch.arange(-pixels, pixels + 1, dtype=mask.dtype, device=mask.device)
    weights = torch.exp(-0.5 * (offsets / (pixels / 2)) ** 2)
    weights = weights / weights.sum()
    flat = mask.reshape(-1, 1, *mask.shape[-2:])
    flat = torch.nn.functional.pad(flat, (pixels,) * 4, mode="replicate")
    flat = torch.nn.functional.conv2d(flat, weights.reshape(1, 1, 1, -1))
    flat = torch.nn.functional.conv2d(flat, weights.reshape(1, 1, -1, 1)).reshape(mask.shape)
    # Rounding of the sum of weights must not make a full mask a soft one.
    return torch.where(flat > 1 - 1e-5, torch.ones_like(flat), flat)


def masked_decode(
    denoise: Denoise,
    trajectory: Sequence[Tensor],
    sigmas: Sequence[float],
    mask: Tensor,
    on_step: Callable[[int, Tensor, Tensor], None] = lambda i, denoised, x: None,
) -> Tensor:
    """Decode an inversion under another guidance, keeping its own states outside the mask.

    x ← x + (σ_{i+1} − σ_i)·d(x, σ_i), then x ← M·x + (1 − M)·z_{i+1}: the state AT THE SAME LEVEL. diffusers blends
    with z_i, one level too noisy, and never with the picture itself.

    trajectory and sigmas: z_i [B, C, S...] and σ_i, noisiest first, the picture (σ = 0) last; mask broadcasts over
    them. Where M is 0 the result is bit for bit the trajectory's last state (if the decode stays finite).
    """
    x = trajectory[0]
    for i, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        denoised = denoise(x, sigma)
        on_step(i, denoised, x)
        x = x + (following - sigma) * slope(x, denoised, sigma)
        x = mask * x + (1 - mask) * trajectory[i + 1].to(x.device)
    return x
