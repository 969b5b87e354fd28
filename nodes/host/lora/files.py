"""LoRA files: the list of them, and reading one without running anything of it."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Iterator
from typing import Any

import comfy.utils
import folder_paths
from comfy.cli_args import args as host_arguments
from torch import Tensor

from ..files import tensors
from ..files.names import check_read, no_file, unreadable

FOLDER = "loras"
SAFETENSORS = (".safetensors", ".sft")


def names() -> list[str]:
    """The files in ComfyUI's loras folders."""
    return folder_paths.get_filename_list(FOLDER)


def read(name: str) -> dict[str, Tensor]:
    """The tensors of a file in ComfyUI's loras folders. No code of a pickle is run.

    Raises ValueError for a name that no file there has, and for a file that cannot be read.
    """
    path = _path(name)
    with _said_in_words(name):
        if path.lower().endswith(SAFETENSORS):
            return tensors.read(path)
        state: Any = comfy.utils.load_torch_file(path, safe_load=True)
        if host_arguments.mmap_torch_files:  # see tensors.read
            state = {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}
        return state


def metadata(name: str) -> dict[str, str]:
    """What a file's header says about its training; nothing for formats that have no header. Raises as `read` does."""
    path = _path(name)
    if not path.lower().endswith(SAFETENSORS):
        return {}
    with _said_in_words(name):
        return tensors.metadata(path)


def _path(name: str) -> str:
    check_read(name, "lora_name", "loras folders")
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        raise no_file(
            name, "lora_name", *(os.path.join(folder, name) for folder in folder_paths.get_folder_paths(FOLDER))
        )
    return path


@contextlib.contextmanager
def _said_in_words(name: str) -> Iterator[None]:
    try:
        yield
    except pickle.UnpicklingError as problem:
        raise ValueError(
            f"lora_name {name!r} is refused: it is a pickle of more than tensors, and no code of a file is run. "
            "Use a .safetensors version of this slider"
        ) from problem
    except OSError as problem:
        raise unreadable(name, "lora_name", problem) from problem
    except Exception as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise ValueError(
            f"lora_name {name!r} cannot be read ({reason}): the file is incomplete or no LoRA. Download it again"
        ) from problem


def fingerprint(name: str) -> tuple[int, ...] | None:
    """Differs when the file does; None for one that is not there."""
    path = folder_paths.get_full_path(FOLDER, name)
    return None if path is None else tensors.fingerprint(path)
