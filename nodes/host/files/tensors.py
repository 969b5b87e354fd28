"""Safetensors files: read whole into memory, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

LARGEST_HEADER = 16 << 20  # bytes; a LoRA's has under one million, and each name in it takes time
MOST_TENSORS = 100_000
METADATA = "__metadata__"
PART = ".part"  # the end of a file's name while it is written
ABANDONED = 24 * 3600  # seconds after which nobody writes to a part any more


def read(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, in memory of their own. A memory-mapped one would end the whole process (SIGBUS) once the
    file is cut short by a copy or a trainer that writes it anew, and change its values where it keeps its size.

    Raises ValueError, saying what is wrong with the file; OSError where it cannot be read.
    """
    _header(path)  # within its bounds
    try:
        return safetensors.torch.load(Path(path).read_bytes())
    except (safetensors.SafetensorError, KeyError, RuntimeError) as broken:  # KeyError: values that torch has not
        raise ValueError(f"it is no safetensors file, or not a whole one ({broken})") from broken


def metadata(path: str | Path) -> dict[str, str]:
    """The texts that whoever wrote a file put into its header. Raises as `read` does."""
    found = _header(path).get(METADATA) or {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError("its header is damaged: its metadata are no texts")
    return found


def _header(path: str | Path) -> dict[str, Any]:
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LARGEST_HEADER:
            raise ValueError(
                f"it is no safetensors file, or its header of {length:,} bytes is longer than {LARGEST_HEADER:,}"
            )
        content = file.read(length)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as broken:
        raise ValueError(f"it is no safetensors file, or not a whole one: its header is no JSON ({broken})") from broken
    if not isinstance(found, dict):
        raise ValueError("it is no safetensors file: its header is no JSON object")
    if len(found) > MOST_TENSORS:
        raise ValueError(f"it holds {len(found):,} tensors, more than {MOST_TENSORS:,}")
    return found


def write(path: str | Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str] | None = None) -> None:
    """Write a new file that is there whole or, after an error or a kill, not at all.

    Raises FileExistsError where the name is taken, also by a process that is about to write it; OSError, naming the
    file and what to do.
    """
    path = Path(path)
    content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, dict(texts or {}))
    part = path.with_name(f".{path.name}{PART}")
    try:
        part.touch(exist_ok=False)  # of several processes one makes it, and has the right to the name with it
        try:
            _refuse_taken(path)
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # else the name may come before the content, should the machine stop
            _publish(part, path)
        finally:
            with contextlib.suppress(OSError):  # held by a virus scanner, say: a later `remove_abandoned` takes it
                part.unlink()
    except FileExistsError:
        raise
    except OSError as problem:
        raise OSError(
            f"{path.name} cannot be written to {path.parent} ({problem.strerror}; it needs {len(content):,} bytes). "
            f"{_advice(problem)}, then run again: nothing was left there"
        ) from problem


def _refuse_taken(path: Path) -> None:
    if os.path.lexists(path):
        raise FileExistsError(f"{path.name} is in {path.parent} already")


def _publish(part: Path, path: Path) -> None:
    """Give a part the file's name, if that is still free. Windows never renames to a name that is taken; elsewhere a
    rename would replace the file, a link does not."""
    if os.name != "nt":
        try:
            os.link(part, path)
            return
        except FileExistsError:
            raise
        except OSError:  # a file system without links, such as exFAT; other processes of ours wait for the part
            _refuse_taken(path)
    os.rename(part, path)


def _advice(problem: OSError) -> str:
    if isinstance(problem, PermissionError):
        return (
            "Allow ComfyUI to write there, close what holds the file (a virus scanner, a sync) or have another folder"
        )
    return "Free some space or have another folder"


def remove_abandoned(folder: str | Path) -> None:
    """Remove what killed processes left of files that they were writing."""
    for part in Path(folder).glob(f".*.safetensors{PART}"):
        with contextlib.suppress(OSError):  # gone meanwhile, or held by another program
            if time.time() - part.lstat().st_mtime > ABANDONED:
                part.unlink()


def fingerprint(path: str | Path) -> tuple[int, ...]:
    """Differs when a file was changed or replaced, also by one of the same size and time (out of one archive)."""
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ctime_ns, found.st_ino
