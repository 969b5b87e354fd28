"""A real ComfyUI in this process, on the CPU, and the pack inside it. COMFYUI_PATH names ComfyUI's folder."""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name: str, path: Path, package: bool = False) -> None:
    if name not in sys.modules:
        spec = spec_from_file_location(name, path, submodule_search_locations=[str(path.parent)] if package else None)
        sys.modules[name] = module = module_from_spec(spec)
        spec.loader.exec_module(module)


comfyui = os.environ.get("COMFYUI_PATH")
if not comfyui or not (Path(comfyui) / "comfy").is_dir():
    raise pytest.UsageError("COMFYUI_PATH must name ComfyUI's folder; `python dev.py test` sets it")
if comfyui not in sys.path:
    sys.path.insert(0, comfyui)

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)
from comfy.cli_args import args  # noqa: E402

args.cpu = True  # before anything imports comfy.model_management

load("semantic_steering", ROOT / "__init__.py", package=True)
load("tiny", Path(__file__).with_name("tiny.py"))
load("oracle", Path(__file__).with_name("oracle.py"))


@pytest.fixture(autouse=True)
def no_leftover_interrupt():
    """An interrupt of one test must not reach the next."""
    yield
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(False)
