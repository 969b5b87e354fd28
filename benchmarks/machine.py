"""What a benchmark runs on. ComfyUI must be prepared for this process before this module is imported."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import comfy.memory_management
import comfy.model_management
import comfy.model_patcher
import comfyui_version
import torch
from comfy.ldm.modules import attention


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"one thread of {named[0] if named else platform.processor() or platform.machine()}"


def description() -> dict[str, str]:
    """Date, kind of device (cpu, cuda), its name, attention and versions, for a reader who compares figures."""
    device = comfy.model_management.get_torch_device()
    return {
        "date": datetime.date.today().isoformat(),
        "kind": device.type,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "attention": attention.optimized_attention.__name__,
        "torch": torch.__version__,
        "comfyui": comfyui_version.__version__,
    }


def prepare() -> None:
    """On a CPU one thread, whose time can be counted while other processes run too. On a CUDA device the dynamic memory
    management, as ComfyUI's own start (main.py) switches it on there by default."""
    device = comfy.model_management.get_torch_device()
    if device.type == "cpu":
        torch.set_num_threads(1)
    if device.type != "cuda" or not comfy.model_management.is_nvidia():
        return
    import comfy_aimdo.control

    comfy_aimdo.control.init()
    if comfy_aimdo.control.init_devices([device.index or 0]):
        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True
