"""Files are written whole or not at all, and none takes the place of another."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from semantic_steering.nodes.host.files import tensors
from semantic_steering.nodes.host.run.identity import ModelIdentity
from semantic_steering.nodes.host.sega import vector_files
from semantic_steering.nodes.host.sega.vectors import ConceptVectors

WRITERS = Path(__file__).resolve().parents[2] / "support" / "writers.py"
EACH, KILLS = 60, 60
NEW = {"new": torch.arange(1000.0)}
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks of one that has loaded ComfyUI")


def saved(folder: Path, **plan) -> dict[int, Path]:
    """What the processes of a plan have left, by number, each file whole; parts are not among them."""
    command = [sys.executable, str(WRITERS), json.dumps({"output": str(folder), **plan})]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = {}
    for file in folder.rglob(f"*{vector_files.SUFFIX}"):
        number = int(tensors.metadata(file)["seed"])
        gamma = tensors.read(file)["gamma"]
        assert gamma.shape[-2:] == (64, 64) and torch.equal(gamma, torch.full_like(gamma, number)), file
        assert number not in found, "saved twice"
        found[number] = file
    return found


@FORKS
@pytest.mark.slow
@pytest.mark.parametrize("links", [True, False], ids=["with links", "a file system without links"])
def test_two_servers_that_save_into_one_folder_lose_nothing(tmp_path, links):
    """Both count the files that are there, and come to the same number."""
    found = saved(tmp_path, race=EACH, links=links)
    assert found.keys() == {*range(1, 1 + EACH), *range(5000, 5000 + EACH)}
    assert not [*tmp_path.rglob(f".*{tensors.PART}")]


@FORKS
@pytest.mark.slow
def test_a_server_that_is_killed_while_it_saves_leaves_whole_files_only(tmp_path, monkeypatch):
    found = saved(tmp_path, kill=KILLS, seed=5)
    parts = [*tmp_path.rglob(f".*{tensors.PART}")]
    assert len(found) >= 10 and len(parts) >= 10, "kills between files and within them"
    monkeypatch.setattr(vector_files.folder_paths, "get_output_directory", lambda: str(tmp_path))
    monkeypatch.setattr(vector_files.folder_paths, "get_input_directory", lambda: str(tmp_path / "none"))
    listed = [f"{file.relative_to(tmp_path)}{vector_files.OUTPUT}" for file in found.values()]
    assert vector_files.names() == sorted(listed)
    for name in listed[:3]:
        vector_files.load(name)


def test_a_name_that_is_taken_stays_what_it_is(tmp_path):
    taken, broken = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    taken.write_bytes(b"another's")
    broken.symlink_to(tmp_path / "nothing")
    for path in (taken, broken):
        with pytest.raises(FileExistsError):
            tensors.write(path, NEW)
    assert taken.read_bytes() == b"another's" and broken.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "b.safetensors"]


def test_a_name_that_another_process_is_about_to_write_is_left_to_it(tmp_path):
    part = tmp_path / f".a.safetensors{tensors.PART}"
    part.write_bytes(b"the first half")
    with pytest.raises(FileExistsError):
        tensors.write(tmp_path / "a.safetensors", NEW)
    assert part.read_bytes() == b"the first half" and os.listdir(tmp_path) == [part.name]


@pytest.mark.parametrize("links", [True, False], ids=["with links", "a file system without links"])
def test_a_name_that_is_taken_while_the_file_is_written(tmp_path, monkeypatch, links):
    path, fsync = tmp_path / "a.safetensors", os.fsync

    def taken(number):
        fsync(number)
        path.write_bytes(b"another's")

    def no_links(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fsync", taken)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(FileExistsError):
        tensors.write(path, NEW)
    assert path.read_bytes() == b"another's" and os.listdir(tmp_path) == [path.name]


def left(path: Path, hours: float) -> None:
    path.touch()
    when = time.time() - hours * 3600
    os.utime(path, (when, when))


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path):
    names = {
        ".old.safetensors.part": 25, ".new.safetensors.part": 23, "old.part": 25, ".old.part": 25,
        "old.safetensors": 25, ".old.safetensors": 25,
    }  # fmt: skip
    for name, hours in names.items():
        left(tmp_path / name, hours)
    tensors.remove_abandoned(tmp_path)
    assert {*os.listdir(tmp_path)} == names.keys() - {".old.safetensors.part"}


@pytest.mark.parametrize(
    ("problem", "advice"),
    [(errno.ENOSPC, "No space left.*Free some space"), (errno.EACCES, "Permission denied.*Allow ComfyUI to write")],
)
def test_what_the_system_refuses_is_said_and_leaves_nothing(tmp_path, monkeypatch, problem, advice):
    def refuse(*_):
        raise OSError(problem, os.strerror(problem))

    path = tmp_path / "a.safetensors"
    for call in ("fsync", "rename"):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, refuse)
            if call == "rename":  # what Windows does with a file that a virus scanner holds open
                patched.setattr(os, "link", refuse)
            with pytest.raises(OSError, match=rf"^a\.safetensors cannot be written .*{advice}"):
                tensors.write(path, NEW)
        assert os.listdir(tmp_path) == []
    tensors.write(path, NEW)
    assert torch.equal(tensors.read(path)["new"], NEW["new"])


def test_a_folder_that_is_gone_is_told(tmp_path):
    with pytest.raises(
        OSError, match=r"^a\.safetensors cannot be written to .*gone \(No such file.*needs \d[\d,]* bytes"
    ):
        tensors.write(tmp_path / "gone" / "a.safetensors", NEW)


def test_a_save_takes_the_next_number_and_removes_what_was_left(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_files.folder_paths, "get_output_directory", lambda: str(tmp_path))
    for name, hours in ((".a_00001_.sega.safetensors.part", 1), (".a_00002_.sega.safetensors.part", 25)):
        left(tmp_path / name, hours)
    vectors = ConceptVectors(torch.ones(1, 1, 4, 8, 8), (1.0,), ModelIdentity("SD15", "EPS", 14.6, None), (), 0)
    saves = [vector_files.save(vectors, "a", {}) for _ in range(2)]
    assert saves == ["a_00002_.sega.safetensors", "a_00003_.sega.safetensors"]
    assert sorted(os.listdir(tmp_path)) == [".a_00001_.sega.safetensors.part", *saves]


def test_what_a_file_says_of_its_concepts_is_told_shortly():
    """A header may hold millions of names, and each a million letters."""
    concepts = tuple({"name": f"a\n{i}" + "x" * 10**4} for i in range(10**3))
    vectors = ConceptVectors(torch.ones(1, 1, 4, 8, 8), (1.0,), ModelIdentity("SD15", "EPS", 14.6, None), concepts, 0)
    names = str(vectors.summary).partition(";")[0].split(", ")
    assert names == [f"{f'a {i}':x<57}..." for i in range(16)]
