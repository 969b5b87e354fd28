"""The list of vector files: as the folders are now, without walking through them each time the page asks."""

from __future__ import annotations

import os

import folder_paths
import pytest
from semantic_steering.nodes.host.sega import vector_files
from semantic_steering.nodes.sliders import SliderLoRALoader, SliderSweep
from semantic_steering.nodes.vectors import SEGALoadVectors


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An input and an output folder, and what was read of them."""
    for name in ("input", "output"):
        (tmp_path / name / "deep" / "er").mkdir(parents=True)
        monkeypatch.setattr(folder_paths, f"get_{name}_directory", lambda name=name: str(tmp_path / name))
    read, scandir = [], os.scandir

    def noted(path):
        read.append(os.path.relpath(path, tmp_path))
        return scandir(path)

    monkeypatch.setattr(vector_files.os, "scandir", noted)
    return tmp_path, read


def test_only_folders_that_changed_are_read_again(folders):
    root, read = folders
    (root / "output" / "deep" / "er" / "b.sega.safetensors").touch()
    (root / "output" / "picture.png").touch()
    (root / "input" / "a.sega.safetensors").touch()
    inside = os.path.join("deep", "er", "b.sega.safetensors")
    assert vector_files.names() == ["a.sega.safetensors", f"{inside} [output]"]
    assert len(read) == 6
    assert vector_files.names() == ["a.sega.safetensors", f"{inside} [output]"]
    assert len(read) == 6
    changed = root / "output" / "deep"
    (changed / "c.sega.safetensors").touch()
    os.utime(changed, ns=(1, 1))  # whatever the resolution of its clock
    assert f"{os.path.join('deep', 'c.sega.safetensors')} [output]" in vector_files.names()
    assert read[6:] == [os.path.join("output", "deep")]
    (root / "input" / "a.sega.safetensors").unlink()
    os.utime(root / "input", ns=(1, 1))
    assert "a.sega.safetensors" not in vector_files.names()


def test_a_folder_that_cannot_be_read_hides_no_other(folders, monkeypatch):
    root, _ = folders
    (root / "output" / "deep" / "secret.sega.safetensors").touch()
    (root / "output" / "a.sega.safetensors").touch()
    scandir = vector_files.os.scandir

    def denied(path):
        if str(path).endswith("deep"):
            raise PermissionError(path)
        return scandir(path)

    monkeypatch.setattr(vector_files.os, "scandir", denied)
    assert vector_files.names() == ["a.sega.safetensors [output]"]


@pytest.mark.parametrize("node", [SliderLoRALoader, SliderSweep, SEGALoadVectors])
def test_a_linked_name_has_no_fingerprint_of_its_own(node):
    """The host gives None for a link; an error here would run all that follows at every queue."""
    name = "file" if node is SEGALoadVectors else "lora_name"
    assert node.fingerprint_inputs(**{name: None}) == node.fingerprint_inputs(**{name: None})
