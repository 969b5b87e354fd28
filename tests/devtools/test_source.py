"""The source distribution with ComfyUI: fetched by its hash from where pip looks, and nothing of it is run."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "devtools" / "source.py"
pytest.importorskip("unearth")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """pip told to look at one folder only, with a distribution whose set-up leaves a trace; returns its hash."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    page = tmp_path / "simple" / "thing"
    page.mkdir(parents=True)
    (tmp_path / "settings").write_text(f"[global]\nindex-url = {(tmp_path / 'simple').as_uri()}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "settings"))
    file = page / "thing-1.0.tar.gz"
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n",
        "setup.py": f"open({str(tmp_path / 'run')!r}, 'w')\nfrom setuptools import setup\nsetup(name='thing')",
    }
    with tarfile.open(file, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"thing-1.0/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    (page / "index.html").write_text(f'<a href="{file.name}">{file.name}</a>')
    return hashlib.sha256(file.read_bytes()).hexdigest()


def fetch(folder: Path, sha256: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "thing==1.0", sha256, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_fetched_and_not_run(places, tmp_path):
    done = fetch(tmp_path / "out", places)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["thing-1.0.tar.gz"]
    assert not (tmp_path / "run").exists()


def test_another_file_of_the_name_is_not_taken(places, tmp_path):
    done = fetch(tmp_path / "out", "0" * 64)
    assert done.returncode == 1
    assert f"ERROR: no place that pip is told to look at has thing==1.0 with SHA-256 {'0' * 64}" in done.stdout
    assert not (tmp_path / "out").exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", ["PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"])
def test_all_places_of_pips_are_looked_at_and_variables_go_first(places, setting, tmp_path, monkeypatch):
    (tmp_path / "empty" / "thing").mkdir(parents=True)
    (tmp_path / "empty" / "thing" / "index.html").write_text("<html></html>")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "empty").as_uri())
    page = tmp_path / "simple"
    monkeypatch.setenv(setting, page.as_uri() if "INDEX" in setting else str(page / "thing"))
    done = fetch(tmp_path / "out", places)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_password_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    done = fetch(tmp_path / "out", "0" * 64)
    assert done.returncode == 1 and "refused" in done.stdout
    assert "secret" not in done.stdout + done.stderr
