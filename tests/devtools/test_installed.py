"""COMFYUI_PATH and COMFYUI_PYTHON: what is no ComfyUI and no Python for it is refused in a sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from devtools import installed
from devtools.environment import SetupError

LONG = f"/{5000 * 'a'}"


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A folder that looks like a ComfyUI, named with this Python."""
    (tmp_path / "comfy").mkdir()
    (tmp_path / "main.py").touch()
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    return tmp_path


def program(folder: Path, text: str) -> str:
    file = folder / "program"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


posix = pytest.mark.skipif(sys.platform == "win32", reason="the programs of this test are shell scripts")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("~nobody9/ComfyUI", "~nobody9/ComfyUI begins with a home folder that is not known: write the path in full"),
        (LONG, r"COMFYUI_PATH is /aaa.*\.\.\. \(5001 characters\): .*choose a shorter path"),
        (str(Path(__file__).parent), "COMFYUI_PATH is .*, which holds no ComfyUI"),
    ],
    ids=["no home", "long", "another folder"],
)
def test_a_path_that_is_no_comfyui(path, said, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", path)
    with pytest.raises(SetupError, match=said) as refused:
        installed.named()
    assert len(str(refused.value)) < 500


def test_links_in_a_circle(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "loop"))
    with pytest.raises(SetupError, match="COMFYUI_PATH"):
        installed.named()


@pytest.mark.parametrize(
    "content",
    [b"", b"__version__ = 3", '__version__ = "0.30.0"'.encode("utf-16"), b"\x00\xff\x80" * 50],
    ids=["empty", "no quotes", "utf-16", "binary"],
)
def test_a_damaged_version_file(tree, content):
    (tree / "comfyui_version.py").write_bytes(content)
    with pytest.raises(SetupError, match=r"COMFYUI_PATH is .*comfyui_version\.py does not say a version.*get it again"):
        installed.named()


def test_the_version_is_read_in_either_quotes_and_an_old_tree_has_none(tree):
    assert installed.named().version == "unknown"
    (tree / "comfyui_version.py").write_text("# made\n__version__ = '0.33.0+git'\n")
    assert installed.named().version == "0.33.0+git"


@posix
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 0", "is no Python that runs"),
        ("echo text", "is no Python that runs"),
        ("exit 1", "is no Python that runs"),
        ("echo '[[3, 8], []]'", r"a Python 3\.8: it takes one from 3\.10 to 3\.13"),
    ],
    ids=["silent", "another program", "failing", "too old"],
)
def test_a_python_that_cannot_be_used(tree, text, said, monkeypatch):
    monkeypatch.setenv("COMFYUI_PYTHON", program(tree, text))
    with pytest.raises(SetupError, match=f"COMFYUI_PYTHON is .*program, .*{said}"):
        installed.named()


@posix
def test_a_later_python_is_taken_and_that_is_said(tree, monkeypatch, capsys):
    monkeypatch.setenv("COMFYUI_PYTHON", program(tree, "echo '[[3, 14], []]'"))
    assert installed.named().python == tree / "program"
    assert "a Python 3.14: nothing was tried with one later than 3.13" in capsys.readouterr().err


@pytest.mark.parametrize("python", ["no-python", "~nobody9/python", LONG], ids=["absent", "no home", "long"])
def test_a_python_that_is_not_there(tree, python, monkeypatch):
    monkeypatch.setenv("COMFYUI_PYTHON", python)
    with pytest.raises(SetupError, match=r"COMFYUI_PYTHON.*(cannot be run|write the path in full)"):
        installed.named()


@posix
def test_a_python_is_found_from_the_folder_of_the_caller_and_its_link_is_kept(tree, monkeypatch):
    (tree / "bin").mkdir()
    (tree / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tree)
    monkeypatch.setenv("COMFYUI_PYTHON", "bin/python")
    assert installed.named().python == tree / "bin" / "python"


def test_missing_packages_are_named_with_the_command_that_installs_them(tree):
    lines = ["pytest>=1", "not-there>=2 # so that", "comfyui-embedded-docs==1", "elsewhere; sys_platform == 'none'"]
    (tree / "requirements.txt").write_text("\n".join(lines))
    env = installed.named()
    with pytest.raises(SetupError) as refused:
        installed.check_packages(env, ["pytest-timeout", "no-such-tool"])
    said, command = str(refused.value).splitlines()
    assert (
        said
        == f"COMFYUI_PYTHON is {installed.short(env.python)}, which lacks not-there, no-such-tool. This installs them:"
    )
    assert command == f"{env.python} -m pip install 'not-there>=2' no-such-tool"
    (tree / "requirements.txt").unlink()
    installed.check_packages(env, ["pytest-timeout"])
