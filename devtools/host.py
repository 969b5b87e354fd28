"""ComfyUI inside this process: its modules first on the path, its options set before anything of it is imported."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
NO_DIFFUSERS = (
    "diffusers is not here: unset COMFYUI_PATH, so that dev.py installs it, or name its folder in "
    "SEMANTIC_STEERING_ORACLE"
)


def comfyui_path() -> Path:
    """Where ComfyUI is; dev.py says so in COMFYUI_PATH."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        raise RuntimeError("COMFYUI_PATH is not set: start this through `python dev.py`")
    return Path(path)


def has_accelerator() -> bool:
    """True if torch can run on an accelerator that ComfyUI would choose by itself."""
    import torch

    return torch.cuda.is_available()


def prepare_comfyui(cpu: bool = False) -> None:
    """Make `import comfy` work as ComfyUI's own start does it; cpu: even where there is an accelerator.

    ComfyUI goes first on the path: its modules `nodes` and `utils` must not be taken for folders of this repository.
    """
    path = str(comfyui_path())
    sys.path[:] = [path, *(entry for entry in sys.path if entry != path)]
    import comfy.options
    import utils  # noqa: F401 - first, as its main.py does: older hosts later put comfy/ on the path, with a utils.py

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args, enables_dynamic_vram

    args.cpu = args.cpu or cpu or not has_accelerator()
    if enables_dynamic_vram():
        import comfy_aimdo.control

        comfy_aimdo.control.init()  # what ComfyUI imports next keeps the library as it finds it then


def load_pack() -> ModuleType:
    """This repository as ComfyUI loads it: by path, under a name that hides nothing."""
    return _loaded("semantic_steering", ROOT / "__init__.py", [str(ROOT)])


def load_file(file: str) -> ModuleType:
    """A file of the pack that uses nothing of ComfyUI and nothing beside it, without the pack."""
    return _loaded(file, ROOT / file)


def _loaded(name: str, path: Path, below: list[str] | None = None) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=below)
        assert spec is not None and spec.loader is not None  # a file that exists always has both
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]
