"""A ComfyUI that is there already: what COMFYUI_PATH, COMFYUI_PYTHON and `test --host` name. Standard library only."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from .environment import PYTHONS, REQUIREMENTS, ROOT, Environment, SetupError, base_directory, cache_folder, say
from .paths import expanded, reason, short

LEFT_OUT = {"comfyui-workflow-templates", "comfyui-embedded-docs"}  # as in requirements.txt
# Asks a Python, of any version, for its version and which of the packages in its arguments it lacks.
PROBE = """import json, sys
lacks = []
if sys.version_info >= (3, 10):
    from importlib import metadata
    for name in sys.argv[1:]:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            lacks.append(name)
print(json.dumps([list(sys.version_info[:2]), lacks]))"""


def named() -> Environment | None:
    """The environment that COMFYUI_PATH and COMFYUI_PYTHON name, if they do."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        return None
    try:
        comfyui = expanded(path).resolve()
    except (ValueError, RuntimeError) as problem:  # the latter for a circle of links
        raise SetupError(f"COMFYUI_PATH: {problem}") from None
    check_tree(comfyui, "COMFYUI_PATH")
    python = _python()
    version, _ = _asked(python, [])
    low, high = (".".join(map(str, bound)) for bound in PYTHONS)
    found = ".".join(map(str, version))
    if tuple(version) < PYTHONS[0]:
        raise SetupError(f"{_whose(python)}, a Python {found}: it takes one from {low} to {high}")
    if tuple(version) > PYTHONS[1]:
        say(f"{_whose(python)}, a Python {found}: nothing was tried with one later than {high}")
    return Environment(Path(python), comfyui, base_directory(cache_folder()), _version(comfyui), None)


def check_tree(comfyui: Path, by: str) -> None:
    """Refuse a folder that holds no whole ComfyUI. by: what says that it does."""
    try:
        there = (comfyui / "main.py").exists() and (comfyui / "comfy").is_dir()
    except OSError as problem:
        raise SetupError(f"{by} is {short(comfyui)}: {reason(problem)}") from None
    if not there:
        raise SetupError(f"{by} is {short(comfyui)}, which holds no ComfyUI (no main.py and comfy/ there)")
    if _version(comfyui) == "":
        raise SetupError(
            f"{by} is {short(comfyui)}, whose comfyui_version.py does not say a version as ComfyUI's does "
            '(`__version__ = "0.30.0"`): the file is damaged; get it again'
        )


def check_packages(env: Environment, tools: Iterable[str]) -> None:
    """Refuse a Python without what this ComfyUI asks for and without the developers' tools that are named."""
    file = env.comfyui / "requirements.txt"
    host = _requirements(file) if file.exists() else {}
    pins = _requirements(REQUIREMENTS)
    needed = {name: line for name, line in host.items() if name not in LEFT_OUT} | {
        name: pins.get(name, name) for name in tools
    }
    _, lacks = _asked(str(env.python), list(needed))
    if lacks:
        command = shlex.join([str(env.python), "-m", "pip", "install", *(needed[name] for name in lacks)])
        raise SetupError(f"{_whose(str(env.python))}, which lacks {', '.join(lacks)}. This installs them:\n{command}")


def _python() -> str:
    """A whole path: commands run in another folder. Links are kept, a virtual environment's Python is one."""
    text = os.environ.get("COMFYUI_PYTHON") or sys.executable
    try:
        found = shutil.which(expanded(text))
    except ValueError as problem:
        raise SetupError(f"COMFYUI_PYTHON: {problem}") from None
    if found is None:
        raise SetupError(f"COMFYUI_PYTHON is {short(text)}, which cannot be run")
    return os.path.abspath(found)


def _whose(python: str) -> str:
    if os.environ.get("COMFYUI_PYTHON"):
        return f"COMFYUI_PYTHON is {short(python)}"
    return f"COMFYUI_PYTHON is not set, so it is {short(python)}"


def _asked(python: str, packages: list[str]) -> tuple[list[int], list[str]]:
    """Its version, and which of these packages it lacks."""
    try:
        done = subprocess.run(
            [python, "-c", PROBE, *packages], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
            check=False,
        )  # fmt: skip
        version, lacks = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError):
        raise SetupError(f"{_whose(python)}, which is no Python that runs (it does not tell its version)") from None
    return version, lacks


def _version(comfyui: Path) -> str:
    """What comfyui_version.py says, empty if it says nothing; trees from before that file are of unknown version."""
    file = comfyui / "comfyui_version.py"
    if not file.exists():
        return "unknown"
    found = re.search(rb"^__version__ = [\"']([\w.+-]+)[\"']", file.read_bytes(), re.MULTILINE)
    return found[1].decode() if found else ""


def _requirements(file: Path) -> dict[str, str]:
    """The lines of a requirements.txt by the package's name, without those for some systems or Pythons only."""
    lines = [line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    found = [re.match(r"[A-Za-z0-9][\w.-]*", line) for line in lines if ";" not in line]
    return {match[0]: match.string for match in found if match}
