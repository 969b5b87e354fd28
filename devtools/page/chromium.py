"""`python chromium.py`: makes sure that there is a Chromium for Playwright to drive; ends with 1 and the reason if not.

Looked for on PATH and in Playwright's own folder; else installed, as Debian's package where that is possible, else by
Playwright. Runs under the environment's Python, by its path.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW = "install Chromium: `apt-get install chromium` on Debian, or `python -m playwright install chromium`"


def find() -> str | None:
    """The program's path."""
    return next(filter(None, map(shutil.which, NAMES)), None) or own()


def own() -> str | None:
    """The one in Playwright's folder."""
    if importlib.util.find_spec("playwright") is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        file = playwright.chromium.executable_path
    return file if os.path.exists(file) else None


def ways() -> list[list[list[str]]]:
    """The ways to install one on this machine, each a list of commands."""
    apt = shutil.which("apt-get")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    package = [[apt, "update"], [apt, "install", "-y", "--no-install-recommends", "chromium"]] if apt and root else None
    own = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    return [package, own] if package else [own]


def install() -> str | None:
    """Install one; returns its path, or None if no way worked."""
    variables = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for commands in ways():
        if all(subprocess.run(command, env=variables, check=False).returncode == 0 for command in commands):
            return find()
    return None


def main() -> int:
    found = find() or install()
    print(found or f"no Chromium: {HOW}")  # noqa: T201
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
