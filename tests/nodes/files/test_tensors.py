"""Files are read whole and written whole, and a changed one is told from the one before."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from semantic_steering.nodes.host.files import tensors

STATE = {"a": torch.arange(1 << 16, dtype=torch.float32), "b.c": torch.ones(3, 2, dtype=torch.float16)}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(STATE, path, {"made": "here"})
    return path


def with_header(path: Path, header: object, data: bytes = b"") -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + data)
    return path


def assert_same(read):
    assert set(read) == set(STATE)
    assert all(torch.equal(read[name], STATE[name]) and read[name].dtype == STATE[name].dtype for name in STATE)


def test_it_is_read_as_it_was_written(file, tmp_path):
    assert_same(tensors.read(file))
    assert tensors.metadata(file) == {"made": "here"}
    tensors.write(tmp_path / "b.safetensors", {"t": STATE["b.c"].T}, {"a": "b"})
    assert torch.equal(tensors.read(tmp_path / "b.safetensors")["t"], STATE["b.c"].T)
    assert tensors.metadata(tmp_path / "b.safetensors") == {"a": "b"}


def test_what_becomes_of_the_file_later_changes_nothing(file):
    """A mapped tensor follows the file; where the file ends before it, reading it kills the process."""
    read = tensors.read(file)
    size = file.stat().st_size
    with file.open("r+b") as again:
        again.seek(size // 2)
        again.write(b"\xff" * (size - size // 2))
    assert_same(read)
    with file.open("r+b") as again:
        again.truncate(16)
    assert_same(read)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"{", "its header is no JSON"),
        (b"\xff" * 40, "its header is no JSON"),
        (b"[" * 100_000, "its header is no JSON"),
        ([], "no JSON object"),
        ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, "not a whole one"),
        ({"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}}, "not a whole one"),
        ({"a": {"dtype": "F32", "shape": [2**62, 16], "data_offsets": [0, 16]}}, "not a whole one"),
        ({"a": 1}, "not a whole one"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_damaged_file_is_refused_in_words(tmp_path, header, words):
    with pytest.raises(ValueError, match=words):
        tensors.read(with_header(tmp_path / "a", header))


@pytest.mark.parametrize("texts", [["a"], {"a": 1}])
def test_metadata_that_are_no_texts(tmp_path, texts):
    with pytest.raises(ValueError, match="metadata are no texts"):
        tensors.metadata(with_header(tmp_path / "a", {tensors.METADATA: texts}))


def test_a_file_made_to_take_all_time_and_memory_is_refused_at_once(tmp_path):
    crowd = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(tensors.MOST_TENSORS + 1)}
    path = with_header(tmp_path / "a", crowd)
    began = time.process_time()
    with pytest.raises(ValueError, match=r"holds 100,001 tensors, more than 100,000"):
        tensors.read(path)
    assert time.process_time() - began < 10
    (tmp_path / "b").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match=r"header of 1,099,511,627,776 bytes is longer than 16,777,216"):
        tensors.read(tmp_path / "b")


def open_files():
    return {os.path.realpath(entry.path) for entry in os.scandir("/proc/self/fd")}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux lists a process's open files there")
def test_no_file_is_held_open_after_it_was_read(file):
    """Windows lets nobody replace or remove a file that is open."""
    with file.open("rb"):
        assert str(file) in open_files(), "this finds them"
    kept = tensors.read(file), tensors.metadata(file)
    assert str(file) not in open_files()
    assert_same(kept[0])
    with pytest.raises(ValueError, match="no JSON"):
        tensors.read(with_header(file, b"{"))
    assert str(file) not in open_files()


def test_another_file_of_the_same_size_and_time_is_another(file):
    """Files that come out of one archive may have both in common."""
    first, told = tensors.fingerprint(file), file.stat()
    assert tensors.fingerprint(file) == first
    other = file.with_name("other")
    other.write_bytes(b"\0" * told.st_size)
    os.utime(other, ns=(told.st_atime_ns, told.st_mtime_ns))
    other.replace(file)
    second = tensors.fingerprint(file)
    assert second != first and second[:2] == first[:2]
    time.sleep(0.02)  # a clock's tick
    file.write_bytes(b"\1" * told.st_size)
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert tensors.fingerprint(file) != second
