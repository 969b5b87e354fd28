"""LoRA files: the list of them, and reading one without running anything of it."""

from __future__ import annotations

import pickle
from typing import Any

import comfy.utils
import folder_paths
from comfy.cli_args import args as host_arguments
from torch import Tensor

from ..files import tensors

FOLDER = "loras"
SAFETENSORS = (".safetensors", ".sft")


def names() -> list[str]:
    """The files in ComfyUI's loras folders."""
    return folder_paths.get_filename_list(FOLDER)


def read(name: str) -> dict[str, Tensor]:
    """The tensors of a file in ComfyUI's loras folders. No code of a pickle is run.

    Raises FileNotFoundError for an unknown name, ValueError for a file that cannot be read.
    """
    path = folder_paths.get_full_path_or_raise(FOLDER, name)
    try:
        if path.lower().endswith(SAFETENSORS):
            return tensors.read(path)
        state: Any = comfy.utils.load_torch_file(path, safe_load=True)
        if host_arguments.mmap_torch_files:  # see tensors.read
            state = {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}
    except pickle.UnpicklingError as problem:
        raise ValueError(
            f"lora_name {name!r} is refused: it is a pickle of more than tensors, and no code of a file is run. "
            "Use a .safetensors version of this slider"
        ) from problem
    except Exception as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise ValueError(
            f"lora_name {name!r} cannot be read ({reason}): the file is incomplete or no LoRA. Download it again"
        ) from problem
    return state


def metadata(name: str) -> dict[str, str]:
    """What a file's header says about its training; nothing for formats that have no header."""
    path = folder_paths.get_full_path_or_raise(FOLDER, name)
    if not path.lower().endswith(SAFETENSORS):
        return {}
    return tensors.metadata(path)


def fingerprint(name: str) -> tuple[int, ...] | None:
    """Differs when the file does; None for one that is not there."""
    path = folder_paths.get_full_path(FOLDER, name)
    return None if path is None else tensors.fingerprint(path)
