"""Lint, format and types: part of the suite like every other promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, **variables: str) -> None:
    command = [sys.executable, "-m", *arguments]
    result = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"


def test_lint():
    run("ruff", "check", "--no-cache", ".")


def test_format():
    run("ruff", "format", "--no-cache", "--check", ".")


@pytest.mark.slow
@pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="needs ComfyUI: run `python dev.py test`")
def test_types():
    # The checker asks the interpreter for its path, so ComfyUI is found where this machine has it.
    run("basedpyright", "--pythonpath", sys.executable, PYTHONPATH=os.environ.get("COMFYUI_PATH", ""))
