"""A slider's file that has changed is read again, by which node it may be."""

from __future__ import annotations

import os

import folder_paths
import pytest
from semantic_steering.nodes.sliders import SliderLoRALoader, SliderSweep

NAME = "slider.safetensors"


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    path = tmp_path / NAME
    path.write_bytes(b"weights")
    return path


def written(path, content: bytes, seconds: int) -> None:
    """The file, as if it was written so many seconds after 2001 began to be counted."""
    path.write_bytes(content)
    os.utime(path, (10**9 + seconds, 10**9 + seconds))


@pytest.mark.parametrize("node", [SliderLoRALoader, SliderSweep])
def test_a_file_is_told_by_when_it_was_written_and_by_its_size(node, file):
    """A training that goes on writes files of the same size; a copy may keep the time of what it replaces."""
    found = []
    for content, seconds in ((b"weights", 0), (b"heavier", 1), (b"heavier weights", 1), (b"weights", 0)):
        written(file, content, seconds)
        found.append(node.fingerprint_inputs(lora_name=NAME, strength=1.0))
    assert found[0] == found[3]
    assert len(set(found)) == 3


@pytest.mark.parametrize("node", [SliderLoRALoader, SliderSweep])
def test_a_file_that_is_gone_and_no_file_have_nothing_to_change(node, file):
    file.unlink()
    assert node.fingerprint_inputs(lora_name=NAME) == node.fingerprint_inputs(lora_name=NAME)
    assert node.fingerprint_inputs(lora_name="none") == node.fingerprint_inputs()
