"""What figures were measured on. ComfyUI must be prepared for this process before this module is imported."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import comfy.model_management
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
