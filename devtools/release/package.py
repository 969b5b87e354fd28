"""`python -m devtools.release.package FOLDER`: the registry's package, unpacked, as `comfy node pack` puts it together:
the files that git tracks, without those that .comfyignore names.

comfy-cli itself would bring two dozen packages into the environment; its patterns are gitignore's, so git reads them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

from ..environment import ROOT, say


def files() -> list[str]:
    """The package's files, by their paths in the repository."""
    left_out = set(listed("--cached", "--ignored", "--exclude-from=.comfyignore"))
    return [name for name in listed("--cached") if name not in left_out and (ROOT / name).is_file()]


def listed(*options: str) -> list[str]:
    """What `git ls-files` prints."""
    done = subprocess.run(["git", "ls-files", "-z", *options], cwd=ROOT, capture_output=True, check=True)
    return [name for name in done.stdout.decode().split("\0") if name]


def unpack(target: Path) -> Path:
    """Copy the package's files to a folder, as installing it does."""
    for name in files():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(prog="devtools.release.package", description="The registry's package, unpacked.")
    parser.add_argument("folder", type=Path)
    target = unpack(parser.parse_args().folder)
    sizes = [file.stat().st_size for file in target.rglob("*") if file.is_file()]
    say(f"{target}: {len(sizes)} files, {sum(sizes) / 1024:.0f} KB")


if __name__ == "__main__":
    main()
