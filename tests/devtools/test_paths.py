"""Paths on the command line: a mistake is refused before anything runs, and what is written is there whole."""

from __future__ import annotations

import errno
import os
from argparse import ArgumentTypeError

import pytest

from demo.files import whole
from devtools.paths import CALLED_FROM, file_to_write, folder_to_fill, given, reason, write

LONG = 5000 * "a"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv(CALLED_FROM, str(tmp_path))
    (tmp_path / "file").write_text("content")
    return tmp_path


@pytest.mark.parametrize("kind", [given, file_to_write, folder_to_fill])
@pytest.mark.parametrize(
    ("text", "said"),
    [("~nobody9/x", "home folder that is not known"), (LONG, "choose a shorter path")],
    ids=["no home", "long"],
)
def test_what_can_be_no_path(kind, text, said):
    with pytest.raises(ArgumentTypeError, match=said) as refused:
        kind(text)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (file_to_write, "file/x.json", "Not a directory|No such file"),
        (file_to_write, "absent/x.json", "absent: .*see whether its folder is there"),
        (file_to_write, ".", "is a folder: name a file"),
        (folder_to_fill, "file", "remove what is there, or choose another place"),
        (folder_to_fill, "file/x", "Not a directory|No such file"),
    ],
)
def test_what_cannot_be_written(kind, text, said):
    with pytest.raises(ArgumentTypeError, match=said):
        kind(text)


@pytest.mark.parametrize("kind", [file_to_write, folder_to_fill])
def test_a_full_disk(kind, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("devtools.paths.TemporaryFile", full)
    with pytest.raises(ArgumentTypeError, match="free some space on its disk"):
        kind("new")


def test_what_can_be_written_is_left_as_it_is(here):
    assert file_to_write("file").read_text() == "content"
    assert file_to_write("new.json") == here / "new.json"
    assert folder_to_fill("a/b") == here / "a" / "b"
    assert file_to_write(os.devnull)
    assert {path.name for path in here.rglob("*")} == {"file", "a", "b"}


def test_a_home_folder_is_found(monkeypatch, here):
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    assert given("~/file") == here / "file"


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")], ids=["Ctrl-C", "full disk"])
def test_a_file_that_is_not_written_to_its_end_is_the_old_one(here, problem):
    def half():
        with whole(here / "file") as part:
            part.write_text("ha")
            raise problem

    with pytest.raises(type(problem)):
        half()
    assert [path.name for path in here.iterdir()] == ["file"]
    assert (here / "file").read_text() == "content"


def test_a_file_is_written_where_a_link_leads_and_into_a_device(here):
    (here / "link").symlink_to("file")
    write(here / "link", "new")
    assert ((here / "link").is_symlink(), (here / "file").read_text()) == (True, "new")
    with whole(here / "picture.png") as part:
        assert part.suffix == ".png"
        part.touch()
    device = type(here)(os.devnull)
    write(device, "gone")
    assert not device.is_file()


def test_an_error_says_what_was_refused_and_what_to_change():
    assert reason(PermissionError(errno.EACCES, "Permission denied", "/x")).startswith("/x: Permission denied (choose")
    assert reason(OSError("words")) == "words"
