"""Moving a few numbers to the device without making the host wait for it."""

from __future__ import annotations

import torch
from torch import Tensor


def few_to(values: Tensor, device: torch.device) -> Tensor:
    """A small tensor from the CPU (up to 64 KiB). CUDA takes that much out of ordinary memory at once, so the copy
    need not wait for the work that is already queued; an ordinary copy would. Elsewhere that is not promised."""
    return values.to(device, non_blocking=device.type == "cuda")
