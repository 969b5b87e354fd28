"""What the registry's package holds, and that it is whole: it loads by itself, and its help finds its pictures."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from posixpath import normpath

import pytest

from devtools.release import package

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest there

ROOT = Path(__file__).resolve().parents[2]
FILES = package.files()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NODES = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
needs_comfyui = pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="needs ComfyUI: run `python dev.py test`")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """The package in a folder of another name, with a dot and a space."""
    return package.unpack(tmp_path_factory.mktemp("packs") / "Semantic Steering.v1")


def test_it_holds_what_users_need_and_nothing_else():
    top = {name.partition("/")[0] for name in FILES}
    assert top - {"subgraphs"} == {
        "__init__.py", "nodes", "guidance_core", "web", "locales", "workflows", "README.md", "LICENSE", "CHANGELOG.md",
        "pyproject.toml",
    }  # fmt: skip
    kinds = {folder: {Path(name).suffix for name in FILES if name.startswith(f"{folder}/")} for folder in top}
    assert kinds["nodes"] == {".py"}
    assert kinds["guidance_core"] == {".py", ".typed"}
    assert kinds["web"] <= {".md", ".js", ".webp", ".jpg", ".svg"}
    assert kinds["workflows"] == {".json", ".jpg"}
    assert kinds["locales"] == {".json"}


def test_every_tracked_file_of_its_folders_is_in_it():
    for folder in ("nodes", "guidance_core", "web", "locales", "workflows", "subgraphs"):
        tracked = [name for name in package.listed("--cached", folder) if (ROOT / name).is_file()]
        assert tracked == [name for name in FILES if name.startswith(f"{folder}/")]


def test_it_has_at_most_one_megabyte(tmp_path):
    """As the archive that `comfy node pack` makes, which is what the registry keeps and users download."""
    with zipfile.ZipFile(tmp_path / "node.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            archive.write(ROOT / name, name)
        largest = sorted(((entry.compress_size, entry.filename) for entry in archive.infolist()), reverse=True)[:10]
    assert (tmp_path / "node.zip").stat().st_size <= 1_000_000, largest


def test_help_finds_its_pictures_and_pages_in_it():
    """The page resolves a help page's addresses against web/docs and serves nothing outside web."""
    pages = [name for name in FILES if re.fullmatch(r"web/docs/.+\.md", name)]
    assert {Path(page).stem for page in pages if page.count("/") == 2} == set(NODES)
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        for address in re.findall(r"""\]\(([^)\s]+)|\bsrc=["']([^"']+)""", text):
            target = "".join(address).partition("#")[0]
            if target and not target.startswith("https://"):
                assert normpath(f"web/docs/{target}") in FILES, f"{page}: {target}"


def imported(file: Path) -> set[str]:
    """The top-level modules that a file imports by absolute names."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


@needs_comfyui
def test_it_imports_only_what_comfyui_requires():
    """The standard library, ComfyUI's own modules, and the packages that its requirements call essential."""
    host = Path(os.environ["COMFYUI_PATH"])
    essential, marker, _ = (host / "requirements.txt").read_text(encoding="utf-8").partition("#non essential")
    assert marker
    packages = {re.split(r"[^\w-]", line.strip())[0].lower() for line in essential.splitlines() if line.strip()}
    own = {entry.stem for entry in host.iterdir() if entry.suffix == ".py" or (entry.is_dir() and entry.suffix == "")}
    names = {"PIL": "pillow"}  # module: package
    sources = [name for name in FILES if name.endswith(".py")]
    assert len(sources) > 30
    for name in sources:
        for module in imported(ROOT / name) - set(sys.stdlib_module_names) - own:
            assert names.get(module, module) in packages, f"{name} imports {module}"
    assert not PROJECT["project"]["dependencies"]
    assert not {"requirements.txt", "install.py"} & set(FILES)


@needs_comfyui
@pytest.mark.slow
def test_it_loads_by_itself_and_brings_no_module_that_comfyui_had_not_imported(unpacked):
    command = [sys.executable, "-m", "devtools.release.loading", str(unpacked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loaded"], done.stderr
    assert set(found["nodes"]) == set(NODES)
    assert found["modules"] == []


def test_the_registry_is_told_everything():
    project, comfy = PROJECT["project"], PROJECT["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9_.-]{1,98}", project["name"])
    assert "comfyui" not in project["name"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert re.fullmatch(r">=\d+\.\d+\.\d+,<=\d+\.\d+\.\d+", comfy["requires-comfyui"])
    assert project["license"] == {"file": "LICENSE"}
    for method in ("SEGA", "DiffEdit", "DDIM inversion", "InstructPix2Pix", "Concept Sliders"):
        assert method in project["description"]
    repository = f"https://github.com/{comfy['PublisherId']}/{project['name']}"
    assert project["urls"].keys() == {"Repository", "Documentation", "Bug Tracker"}
    assert all(url.startswith(repository) for url in project["urls"].values())
    raw = f"https://raw.githubusercontent.com/{comfy['PublisherId']}/{project['name']}/main/"
    for picture in ("Icon", "Banner"):
        assert comfy[picture].startswith(raw)
        assert comfy[picture].removeprefix(raw) in package.listed("--cached", "docs")
    assert "web" not in comfy  # beside WEB_DIRECTORY it would make the page load every script twice


def test_readme_names_the_oldest_comfyui():
    oldest = PROJECT["tool"]["comfy"]["requires-comfyui"].removeprefix(">=").partition(",")[0]
    assert f"Needs ComfyUI {oldest} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")
