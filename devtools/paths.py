"""Paths that are given on the command line, and what is written to them. Standard library only: dev.py uses it too."""

from __future__ import annotations

import contextlib
import errno
import os
from argparse import ArgumentTypeError
from pathlib import Path
from tempfile import TemporaryFile

from demo.files import whole

CALLED_FROM = "SEMANTIC_STEERING_CALLED_FROM"  # dev.py says in this variable where it was called
LONGEST = 80  # characters of a path in a message

_WHAT_TO_CHANGE = {
    errno.ENOENT: "see whether its folder is there",
    errno.EACCES: "choose another place, or change its permissions",
    errno.EPERM: "choose another place, or change its permissions",
    errno.EROFS: "choose a place that can be written to",
    errno.EEXIST: "remove what is there, or choose another place",
    errno.ENOTDIR: "a part of it is a file; choose another place",
    errno.EISDIR: "a file is needed there; choose another name",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ENOSPC: "free some space on its disk, or choose a place on another",
}


def short(path: str | Path) -> str:
    """A path for a message."""
    text = str(path)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


def reason(problem: OSError) -> str:
    """What the system refused, and what to change."""
    if problem.strerror is None:  # an error of Python's own, with words of its own
        return str(problem)
    where = "" if problem.filename is None else f"{short(os.fsdecode(problem.filename))}: "
    what_to_change = _WHAT_TO_CHANGE.get(problem.errno or 0)
    return f"{where}{problem.strerror}" + (f" ({what_to_change})" if what_to_change else "")


def expanded(text: str) -> Path:
    """A path with `~` replaced. Raises ValueError for the home of nobody."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{short(text)} begins with a home folder that is not known: write the path in full") from None


def given(text: str) -> Path:
    """A path as an argument's type: seen from the folder that dev.py was called in, because commands run in the
    repository's root. Not resolved: a link may have the file's name while what it leads to has none."""
    try:
        path = Path(os.environ.get(CALLED_FROM) or Path.cwd(), expanded(text))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(path)  # what can be no path, such as one that is too long, is refused here
    except OSError as problem:
        raise ArgumentTypeError(reason(problem)) from None
    except ValueError as problem:
        raise ArgumentTypeError(str(problem)) from None
    return path


def file_to_write(text: str) -> Path:
    """The same for a file that is written at a run's end: refused now if it cannot be."""
    file = given(text)
    if file.is_dir():
        raise ArgumentTypeError(f"{short(file)} is a folder: name a file")
    if file.is_file() or not file.exists():  # not a device such as /dev/null
        _try(file.resolve().parent)
    return file


def folder_to_fill(text: str) -> Path:
    """The same for a folder: made now, and refused if nothing can be written into it."""
    folder = given(text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ArgumentTypeError(reason(problem)) from None
    _try(folder)
    return folder


def _try(folder: Path) -> None:
    try:
        with TemporaryFile(dir=folder) as file:
            file.write(b"some" * 1024)  # a file's name may still fit on a full disk
    except OSError as problem:
        problem.filename = str(folder)  # not the temporary name
        raise ArgumentTypeError(reason(problem)) from None


def write(file: Path, text: str) -> None:
    """Write a file that is either the old or the new one, whenever the process ends."""
    with whole(file) as part:
        part.write_text(text, encoding="utf-8")
