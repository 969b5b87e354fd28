"""Imports the repository's packages by name and takes its root off the path again.

The root must not stay there: the pack's `nodes` folder would hide ComfyUI's own `nodes` module. ComfyUI itself is set
up by the folders' own conftest files, so that the core's tests need no ComfyUI.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
sys.path.insert(0, str(ROOT))
import benchmarks  # noqa: E402, F401
import demo  # noqa: E402, F401
import devtools  # noqa: E402, F401
import guidance_core  # noqa: E402, F401

sys.path.pop(0)
sys.path.append(str(ROOT / "tests" / "support"))  # what tests share

settings.register_profile("suite", database=None, deadline=None, derandomize=True)
settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption("--full-size", action="store_true", help="also run the tests marked full_size")
    parser.addoption("--renew-schemas", action="store_true", help="write tests/nodes/schemas.txt anew")


def pytest_collection_modifyitems(config, items):
    """Whole models take minutes and 12 GB: only where they are asked for (`dev.py test --compat` does)."""
    if not config.getoption("--full-size"):
        whole = [item for item in items if item.get_closest_marker("full_size")]
        items[:] = [item for item in items if item not in whole]
        config.hook.pytest_deselected(items=whole)


@pytest.fixture(scope="module", autouse=True)
def little_to_collect():
    """What is there before a file's first test stays: ComfyUI collects garbage whenever a model of a test is gone, and
    among what thousands of tests need that took longer than the tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT
