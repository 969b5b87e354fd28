"""The authors' implementations (benchmarks/peers.py) on ComfyUI's UNet."""

from __future__ import annotations

from typing import Any

import torch
from parity import without_diffusers

from benchmarks import peers


def reference_unet(model: Any) -> Any:
    """ComfyUI's UNet as diffusers'."""
    try:
        return peers.reference_unet(model)
    except ModuleNotFoundError:
        without_diffusers()


def mask_and_map(
    reference: peers.DiffEdit, monkeypatch: Any, latents: torch.Tensor, **options: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """diffusers' mask [1, h, w], and its map [1, h, w] before the clamping, which it does not hand out."""
    seen: list[torch.Tensor] = []
    clamp = torch.Tensor.clamp

    def note(tensor, *args, **kwargs):
        seen.append(tensor.clone())
        return clamp(tensor, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "clamp", note)
        mask = reference.generate_mask(latents, **options)
    return mask, [tensor for tensor in seen if tensor.shape == (1, *latents.shape[-2:])][-1]
