"""A real ComfyUI in this process, on the CPU, and the pack inside it. COMFYUI_PATH names ComfyUI's folder."""

from __future__ import annotations

import pytest

from devtools.host import load_pack, prepare_comfyui

prepare_comfyui(cpu=True)
load_pack()


@pytest.fixture(autouse=True)
def no_leftover_interrupt():
    """An interrupt of one test must not reach the next."""
    yield
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(False)
