"""How a benchmark uses its machine. ComfyUI must be prepared for this process before this module is imported."""

from __future__ import annotations

import comfy.memory_management
import comfy.model_management
import comfy.model_patcher
import torch


def prepare() -> None:
    """On a CPU one thread, whose time can be counted while other processes run too. On a CUDA device the dynamic memory
    management, as ComfyUI's own start (main.py) switches it on there by default."""
    device = comfy.model_management.get_torch_device()
    if device.type == "cpu":
        torch.set_num_threads(1)
    if device.type != "cuda" or not comfy.model_management.is_nvidia():
        return
    import comfy_aimdo.control

    if comfy_aimdo.control.init_devices([device.index or 0]):
        comfy_aimdo.control.set_log_warning()  # or every allocation is a line
        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True
