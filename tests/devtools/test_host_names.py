"""Every name of ComfyUI's that the pack uses is there, and its calls suit the signatures: read, not run, by
comfy-import-guard, so that a node that no test runs counts as well."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.environment import ROOT
from devtools.release.package import files

pytestmark = pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="needs ComfyUI: run `python dev.py test`")

# What the pack asks for by getattr with something in its place, because only newer versions have it.
ASKED_FOR = {"comfy.model_prefetch.pause_malloc_graph"}
GIT = ["git", "-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "core.excludesFile="]


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The ComfyUI's Python files as the git repository that the checker reads."""
    source, clone = Path(os.environ["COMFYUI_PATH"]), tmp_path_factory.mktemp("cache") / "ComfyUI"
    for file in source.rglob("*.py"):
        place = clone / file.relative_to(source)
        if place.parts[len(clone.parts)] not in {"custom_nodes", "tests", "tests-unit"}:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    for command in (["init", "-q"], ["add", "-f", "."], ["commit", "-q", "-m", "ComfyUI"]):
        subprocess.run([*GIT, *command], cwd=clone, check=True)
    return clone


def guard(host, tmp_path, pack):
    install = tmp_path / "install"
    for name, content in pack.items():
        place = install / "custom_nodes" / "semantic-steering" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, encoding="utf-8")
    program = "import sys; from comfy_import_guard.cli import main; sys.exit(main())"
    flags = ["--json", "--quiet", "--offline", "--no-update", "--cache-dir", host.parent, "--comfy-dir", install]
    result = subprocess.run(
        [sys.executable, "-c", program, "check", "--target", "HEAD", *map(str, flags)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.stdout, result.stderr
    (report,) = json.loads(result.stdout)["packs"]
    return report


def test_every_name_and_call_of_comfyui_is_there(host, tmp_path):
    pack = {str(name): (ROOT / name).read_text(encoding="utf-8") for name in files() if str(name).endswith(".py")}
    report = guard(host, tmp_path, pack)
    assert report["python_files"] == len(pack)
    assert report["references"] > 100
    missing = {found["dotted"] for found in report["breaking"] if found["symbol"] != "__name__"}  # every module has it
    assert missing <= ASKED_FOR
    assert report["soft"] == report["unresolvable"] == report["signature_drift"] == report["unparseable"] == []


def test_the_checker_sees_what_is_not_there(host, tmp_path):
    report = guard(host, tmp_path, {"__init__.py": "import comfy.samplers\ncomfy.samplers.no_such_name()\n"})
    assert [found["dotted"] for found in report["breaking"]] == ["comfy.samplers.no_such_name"]
