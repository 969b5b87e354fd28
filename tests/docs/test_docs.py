"""What a newcomer finds: help pages, texts, links, sizes. Looks at tracked files only."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
KB, MB = 1024, 1024**2
NODES = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
TEXT = {".py", ".md", ".toml", ".json", ".js", ".txt", ".yml", ".yaml", ".html", ".css", ""}
# A home, scratch, work or drive folder of somebody's machine.
MACHINE_PATH = re.compile(r"(?<![\w./~-])/(?:home|root|Users|work|mnt|scratch|workspace|opt)/\w|\b[A-Z]:\\\w")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


FILES = tracked()
PAGES = [file for file in FILES if file.suffix == ".md"]


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def test_files_are_listed():
    assert len(FILES) > 40
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"} <= {relative(page) for page in FILES}


@pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="needs ComfyUI: run `python dev.py test`")
def test_locale_is_in_step_with_the_schemas():
    command = [sys.executable, "-m", "devtools.release.locales", "--check", "--inside", os.environ["COMFYUI_PATH"]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_input_has_a_tooltip_and_every_node_a_description():
    assert len(NODES) >= 4
    for node, texts in NODES.items():
        assert texts["display_name"] and texts["description"], node
        for name, field in texts["inputs"].items():
            assert field["tooltip"], f"{node}.{name}"


def test_readme_lists_every_node():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for node, texts in NODES.items():
        assert f"[{texts['display_name']}](web/docs/{node}.md)" in readme


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_to_tracked_files(page):
    names = {relative(file) for file in FILES}
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        assert target.is_relative_to(ROOT) and relative(target) in names, f"{relative(page)} links to {link}"
        assert not anchor or anchor in anchors(target), f"{relative(page)} links to {link}"


@pytest.mark.parametrize("command", re.findall(r"`python dev\.py ([\w-]+)`", (ROOT / "README.md").read_text("utf-8")))
def test_readme_names_commands_that_exist(command):
    done = subprocess.run([sys.executable, "dev.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(rf"\b{command}\b", done.stdout)


def test_the_architectures_map_is_the_tree():
    """A row for each folder with code in it, and no row without a folder."""
    section = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("\n## ")[1]
    assert section.startswith("The map\n")
    rooms = [re.findall(r"`([^`]+)`", row) for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)]
    named = [room.rstrip("/") for row in rooms for room in row]
    assert len(named) == len(set(named)) > 30
    code = {relative(file.parent) for file in FILES if file.suffix in {".py", ".js"} and file.parent != ROOT}
    assert code <= set(named)
    assert not [room for room in named if not (ROOT / room).exists()]


def test_changelog_has_the_version_and_a_workflows_heading():
    """The publish workflow waits for the version's heading to have a date."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version is not None
    first, *earlier = changelog.split("\n## ")[1:]
    title, number = first.splitlines()[0], re.escape(version.group(1))
    assert re.fullmatch(rf"\[Unreleased\] {number}|\[{number}\] - \d{{4}}-\d\d-\d\d", title)
    assert "\n### Workflows\n" in first
    for release in earlier:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", release.splitlines()[0])


def test_licence_is_apache_and_contributing_is_short():
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 60


def test_pictures_are_small():
    limits = {".jpg": 60 * KB, ".webp": 120 * KB, ".svg": 20 * KB}
    for file in FILES:
        kind = file.suffix.lower()
        if kind in limits:
            assert file.stat().st_size <= limits[kind], f"{relative(file)} has {file.stat().st_size // KB} KB"
        assert kind not in {".png", ".gif", ".jpeg", ".bmp", ".mp4"}, f"{relative(file)}: use jpg or webp"


def test_weights_are_small_and_the_rest_smaller():
    sizes = {file: file.stat().st_size for file in FILES}
    weights = {file for file in FILES if file.suffix == ".safetensors"}
    assert sum(sizes[file] for file in weights) <= 16 * MB
    assert sum(size for file, size in sizes.items() if file not in weights) <= 4 * MB
    assert not [relative(f) for f in FILES if f.suffix in {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}]


def test_source_files_are_short():
    sources = [file for file in FILES if file.suffix in {".py", ".js"}]
    assert len(sources) > 20
    for file in sources:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 400, relative(file)


def test_no_paths_of_a_machine():
    for file in FILES:
        if file.suffix in TEXT and file != Path(__file__).resolve():
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                assert not MACHINE_PATH.search(line), f"{relative(file)}:{number}: {line.strip()[:120]}"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("cd /home/someone/x", True), ('"/work/a"', True), ("C:\\Users\\a", True), ("(/root/x)", True),
        ("https://a.b/home/x", False), ("demo/home/x", False), ("~/.cache", False), ("/usr/bin/env bash", False),
    ],
)  # fmt: skip
def test_machine_paths_are_recognised(line, found):
    assert bool(MACHINE_PATH.search(line)) is found
