"""`python source.py PROJECT==VERSION SHA256 FOLDER`: puts a source distribution with this hash into a folder.

`pip download` builds a source distribution to ask it for its name, which runs what is in it. unearth, which pdm finds
packages with, only fetches, from where pip is told to look and with its own handling of passwords, proxies and hashes.
Runs under the environment's Python, by its path.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys


def pip_settings() -> dict[str, str]:
    """pip's settings from its files and from PIP_*, which go first. They may hold passwords: not to be shown."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True).stdout
    found = dict(re.findall(r"^(\S+?)=('.*'|\".*\")$", lines, re.MULTILINE))
    ordered = sorted(found, key=lambda name: name.startswith(":env:"))
    return {name.rpartition(".")[2]: ast.literal_eval(found[name]) for name in ordered}


def fetch(requirement: str, sha256: str, folder: str, settings: dict[str, str]) -> None:
    if "cert" in settings:  # read when the first connection is made
        os.environ.setdefault("SSL_CERT_FILE", settings["cert"])
    from unearth import PackageFinder

    project, hashes = requirement.partition("==")[0], {"sha256": [sha256]}
    finder = PackageFinder(
        index_urls=settings.get("index-url", "").split(),  # the public one, as pip has it, if there is none
        trusted_hosts=settings.get("trusted-host", "").split(),
        ignore_compatibility=True,  # it is taken for its files, not to be installed
        no_binary=[project],
    )
    for url in settings.get("extra-index-url", "").split():
        finder.add_index_url(url)
    for place in settings.get("find-links", "").split():
        finder.add_find_links(place)
    found = finder.find_best_match(requirement, hashes=hashes).best
    if found is None:
        raise LookupError(f"no place that pip is told to look at has {requirement} with SHA-256 {sha256}")
    file = finder.download(found.link, folder, hashes=hashes)
    if not file.is_relative_to(folder):  # one of this machine's own, left where it is
        os.makedirs(folder, exist_ok=True)
        shutil.copy(file, folder)


def main() -> int:
    requirement, sha256, folder = sys.argv[1:]
    try:
        fetch(requirement, sha256, folder, pip_settings())
    except Exception as problem:  # of several libraries; an address in its words may hold a password
        print(re.sub(r"//[^/@\s]*@", "//****@", f"ERROR: {problem}"))  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
