"""Little memory, on a machine that has no second device: the host keeps most layers away, patched at each use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import comfy.model_management
import pytest


@contextlib.contextmanager
def little_memory(size: int) -> Iterator[None]:
    """The host takes the CPU for a device with `size` free bytes. Begins and ends with nothing loaded."""
    comfy.model_management.unload_all_models()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.model_management, "is_device_cpu", lambda device: False)
        patch.setattr(comfy.model_management, "vram_state", comfy.model_management.VRAMState.NORMAL_VRAM)
        patch.setattr(comfy.model_management, "minimum_inference_memory", lambda: 0)
        patch.setattr(
            comfy.model_management, "get_free_memory",
            lambda dev=None, torch_free_too=False: (size, size) if torch_free_too else size,
        )  # fmt: skip
        yield
        comfy.model_management.unload_all_models()
