"""Paths that are given on the command line. Standard library only: dev.py hands on where it was called."""

from __future__ import annotations

import os
from pathlib import Path

CALLED_FROM = "SEMANTIC_STEERING_CALLED_FROM"


def given(text: str) -> Path:
    """A path as an argument's type: seen from the folder that dev.py was called in, because commands run in the
    repository's root. Not resolved: a link may have the file's name while what it leads to has none."""
    return Path(os.environ.get(CALLED_FROM) or Path.cwd(), text)
