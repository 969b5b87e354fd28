"""A real ComfyUI in this process, on the CPU, and the pack inside it. COMFYUI_PATH names ComfyUI's folder."""

from __future__ import annotations

import pytest

from devtools.host import load_pack, prepare_comfyui

prepare_comfyui(cpu=True)
load_pack()


@pytest.fixture(scope="session", autouse=True)
def previews_in_a_temporary_folder(tmp_path_factory):
    """Nodes that show a picture write it to ComfyUI's own temp folder otherwise."""
    import folder_paths

    folder_paths.set_temp_directory(str(tmp_path_factory.mktemp("previews")))


@pytest.fixture(autouse=True)
def no_leftover_interrupt():
    """An interrupt of one test must not reach the next."""
    yield
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(False)
