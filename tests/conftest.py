"""Loads the pack by path, as ComfyUI does.

The repository must not be importable by name: its `nodes` folder would hide ComfyUI's own `nodes` module.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


def load_by_path(name: str, path: Path) -> ModuleType:
    """Import a file, or a package's __init__.py, under a name of our own choice."""
    if name in sys.modules:
        return sys.modules[name]
    folder = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


settings.register_profile("suite", database=None, deadline=None, derandomize=True)
settings.load_profile("suite")
load_by_path("guidance_core", ROOT / "guidance_core" / "__init__.py")
load_by_path("slow_reference", ROOT / "tests" / "core" / "slow_reference.py")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT
