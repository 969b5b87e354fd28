"""Commands that run in a process of their own, and Ctrl-C. Standard library only: dev.py uses it too."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

INTERRUPTED = 130  # the exit status of a command that Ctrl-C ended, as shells have it


def run(command: list[str], cwd: Path, variables: Mapping[str, str]) -> int:
    """Run a command to its end; returns its exit status. Ctrl-C reaches it by itself: it ends first, as it likes to. A
    request to terminate is handed on, so that no server is left behind."""
    interrupted = False

    def note(*_: object) -> None:
        nonlocal interrupted
        interrupted = True

    signal.signal(signal.SIGINT, note)
    process = subprocess.Popen(command, cwd=cwd, env=variables)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    if interrupted:  # perhaps just before there was a process to reach
        process.terminate()
    code = process.wait()
    if interrupted and code != 0:  # pytest, for one, has a status of its own for it
        return INTERRUPTED
    return code if code >= 0 or os.name == "nt" else 128 - code


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C does nothing inside: for what ends other processes, so that a second one does not leave them behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
