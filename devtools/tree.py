"""The suite on another ComfyUI tree, or with another version of its page.

What these ask for and this Python's packages do not satisfy is installed into the cache folder, a folder for each
requirement, and goes before the environment's own packages; the environment stays as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from .environment import SetupError, cache_folder, locked, pip
from .installed import LEFT_OUT, check_tree
from .paths import short

FRONTEND = "comfyui-frontend-package"


def variables(host: Path | None, frontend: str | None) -> dict[str, str]:
    """The environment variables of a run on this tree (else the environment's) and with this version of the page."""
    found: dict[str, str] = {}
    needed: list[str] = []
    if host is not None:
        check_tree(host, "--host")
        found["COMFYUI_PATH"] = str(host.resolve())
        file = host / "requirements.txt"
        try:
            needed = unsatisfied(file.read_text(encoding="utf-8")) if file.exists() else []
        except (UnicodeDecodeError, InvalidRequirement) as problem:
            raise SetupError(
                f"--host: {file} is not the list of packages that ComfyUI's trees have: {str(problem).splitlines()[0]}"
            ) from None
    if frontend is not None:
        if re.fullmatch(r"\d+(\.\d+)+", frontend) is None:
            raise SetupError(f"--frontend is {short(frontend)}; it takes a version of {FRONTEND}, such as 1.47.12")
        needed = [line for line in needed if Requirement(line).name != FRONTEND]
        needed += unsatisfied(f"{FRONTEND}=={frontend}")
    if needed:
        paths = [*map(_installed, needed), *filter(None, [os.environ.get("PYTHONPATH")])]
        found["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    return found


def unsatisfied(requirements: str) -> list[str]:
    """The lines of a requirements.txt that this Python's packages do not satisfy."""
    found = []
    for line in requirements.splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        wanted = Requirement(text)
        if wanted.name in LEFT_OUT or (wanted.marker is not None and not wanted.marker.evaluate()):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            found.append(text)
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            found.append(text)
    return found


def _installed(requirement: str) -> Path:
    """The folder of a package, installed by itself: what it depends on is the environment's."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    folder = cache_folder() / f"packages-{version}" / re.sub(r"[^\w.]+", "-", requirement)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f"{folder.name}.lock"):
            if not folder.exists():
                part = folder.parent / f"{folder.name}.part"
                shutil.rmtree(part, ignore_errors=True)
                try:
                    arguments = ["install", "--no-deps", "--target", str(part / "to"), requirement]
                    pip(sys.executable, part / "pip", requirement, *arguments)
                    os.replace(part / "to", folder)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    return folder
