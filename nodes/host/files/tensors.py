"""Safetensors files: read whole into memory, written whole or not at all."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

LARGEST_HEADER = 16 << 20  # bytes; a LoRA's has under one million, and each name in it takes time
MOST_TENSORS = 100_000
METADATA = "__metadata__"


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
    """Write a file that is there whole or, after an error or a kill, not at all (a file of that name stays then).

    Raises OSError, naming the file and what to do.
    """
    path = Path(path)
    content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, dict(texts or {}))
    beside = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else the name may come before the content, should the machine stop
        beside.replace(path)
    except OSError as problem:
        raise OSError(
            f"{path.name} cannot be written to {path.parent} ({problem.strerror}; it needs {len(content):,} bytes). "
            "Free some space or have another folder, then run again: nothing was left there"
        ) from problem
    finally:
        beside.unlink(missing_ok=True)


def fingerprint(path: str | Path) -> tuple[int, ...]:
    """Differs when a file was changed or replaced, also by one of the same size and time (out of one archive)."""
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ctime_ns, found.st_ino
