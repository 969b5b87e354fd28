"""Files that are there whole or not at all. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Where to write a file that becomes `file` at the block's end: whenever the process ends, and if the disk is full,
    `file` is the old one or the new one."""
    file = file.resolve()  # a link stays one
    if file.exists() and not file.is_file():  # a device such as /dev/null
        yield file
        return
    part = file.with_name(f"{file.stem}.part{file.suffix}")  # the suffix says in which format a picture is saved
    try:
        yield part
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
