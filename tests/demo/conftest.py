"""The portraits domain and a real ComfyUI in this process, set up as the developers' tools do it."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_package(name: str) -> None:
    if name not in sys.modules:
        folder = ROOT / name
        spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
        sys.modules[name] = module = module_from_spec(spec)
        spec.loader.exec_module(module)


load_package("devtools")
load_package("demo")

from devtools.host import load_pack, prepare_comfyui  # noqa: E402

prepare_comfyui()
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
