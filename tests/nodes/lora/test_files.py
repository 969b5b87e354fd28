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


@pytest.mark.parametrize("node", [SliderLoRALoader, SliderSweep])
def test_a_changed_file_is_read_again(node, file):
    """A training that goes on writes files of the same size."""
    told = [node.fingerprint_inputs(lora_name=NAME, strength=1.0) for _ in range(2)]
    for content in (b"heavier", b"heavier weights"):
        file.write_bytes(content)
        os.utime(file, (10**9, 10**9))
        told.append(node.fingerprint_inputs(lora_name=NAME, strength=1.0))
    assert told[0] == told[1]
    assert len(set(told)) == 3


@pytest.mark.parametrize("node", [SliderLoRALoader, SliderSweep])
def test_a_file_that_is_gone_and_no_file_have_nothing_to_change(node, file):
    file.unlink()
    assert node.fingerprint_inputs(lora_name=NAME) == node.fingerprint_inputs(lora_name=NAME)
    assert node.fingerprint_inputs(lora_name="none") == node.fingerprint_inputs()
