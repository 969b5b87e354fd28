"""The portraits domain and a real ComfyUI in this process, set up as the developers' tools do it."""

from __future__ import annotations

import pytest

from devtools.host import load_pack, prepare_comfyui

prepare_comfyui(cpu=True)
load_pack()


@pytest.fixture(scope="session")
def lab():
    """The shipped checkpoint, loaded by ComfyUI's own loader."""
    from demo.laboratory import Laboratory

    return Laboratory()


@pytest.fixture(scope="session")
def judge():
    """The shipped classifier."""
    from demo.judge import Judge

    return Judge.load()
