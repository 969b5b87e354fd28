"""`dev.py test --host PATH --frontend VERSION`: what another tree asks for lies before the environment's packages."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

import devtools.test
from devtools import tree
from devtools.environment import SetupError

HERE = f"pytest=={metadata.version('pytest')}"


@pytest.fixture
def installs(tmp_path, monkeypatch) -> list[list[str]]:
    """An empty cache, and a pip that only makes its folder; returns what it was called with."""
    calls = []

    def pip(python, downloads, what, *arguments):
        calls.append([str(python), *map(str, arguments)])
        Path(arguments[arguments.index("--target") + 1]).mkdir(parents=True)

    monkeypatch.setattr(tree, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(tree, "pip", pip)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return calls


@pytest.fixture
def host(tmp_path) -> Path:
    folder = tmp_path / "ComfyUI"
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").touch()
    return folder


def test_only_what_this_python_does_not_satisfy_is_installed_and_only_once(host, installs):
    lines = [
        HERE,
        "pytest>=1,<2  # older",
        "",
        "# none",
        "comfyui-embedded-docs==0.1",
        "absent-package==1; python_version < '3'",
    ]
    (host / "requirements.txt").write_text("\n".join([*lines, "absent-package==2.0"]))
    found = tree.variables(host, None)
    assert found["COMFYUI_PATH"] == str(host)
    assert [call[-1] for call in installs] == ["pytest>=1,<2", "absent-package==2.0"]
    assert all(call[:3] == [sys.executable, "install", "--no-deps"] for call in installs)
    paths = [Path(path) for path in found["PYTHONPATH"].split(os.pathsep)]
    assert [path.name for path in paths] == ["pytest-1-2", "absent-package-2.0"]
    assert all(path.is_dir() for path in paths)
    assert tree.variables(host, None) == found
    assert len(installs) == 2


def test_a_version_of_the_page_takes_the_place_of_the_trees_own(host, installs, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "mine")
    (host / "requirements.txt").write_text("comfyui-frontend-package==0.1\nabsent-package==2.0\n")
    found = tree.variables(host, "0.2.3")
    assert [call[-1] for call in installs] == ["absent-package==2.0", "comfyui-frontend-package==0.2.3"]
    assert found["PYTHONPATH"].endswith(f"{os.pathsep}mine")
    assert set(tree.variables(None, "0.2.3")) == {"PYTHONPATH"}


def test_a_tree_that_asks_for_nothing_more_changes_nothing_else(host, installs):
    assert tree.variables(host, None) == {"COMFYUI_PATH": str(host)}
    (host / "requirements.txt").write_text(HERE)
    assert tree.variables(host, None) == {"COMFYUI_PATH": str(host)}
    assert tree.variables(None, None) == {}
    assert not installs


def test_an_interrupted_installation_is_made_again(host, installs, monkeypatch):
    def interrupted(python, downloads, what, *arguments):
        Path(arguments[arguments.index("--target") + 1]).mkdir(parents=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tree, "pip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tree.variables(None, "0.2.3")
    tree.variables(None, "0.2.3")
    assert len(installs) == 1


@pytest.mark.parametrize("frontend", ["newest", "1", "1.2;x", "../1.2"])
def test_what_is_no_version_of_the_page_is_refused(frontend, installs):
    with pytest.raises(
        SetupError, match=r"--frontend is .*; it takes a version of comfyui-frontend-package, such as 1"
    ):
        tree.variables(None, frontend)


def test_a_folder_without_comfyui_stops_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["devtools.test", "--host", str(tmp_path), "tests/core"])
    monkeypatch.setattr(devtools.test, "run", lambda *_: pytest.fail("nothing may run"))
    assert devtools.test.main() == 1
    assert f"no test was run: --host is {tmp_path}, which holds no ComfyUI" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        (["tests/core"], ["pytest", *devtools.test.LAST_LINES, "tests/core"]),
        (["--compat", "browser"], ["devtools.release.hosts", "browser"]),
    ],
)
def test_the_suite_runs_on_the_tree(arguments, started, host, installs, monkeypatch):
    seen = []

    def run(command, _, variables):
        seen.append((command, variables["COMFYUI_PATH"], variables["PYTHONPATH"]))
        return 0

    monkeypatch.setattr(devtools.test, "run", run)
    monkeypatch.chdir(host.parent)
    monkeypatch.setenv("SEMANTIC_STEERING_CALLED_FROM", str(host.parent))
    monkeypatch.setattr(sys, "argv", ["devtools.test", "--host", host.name, "--frontend", "0.2.3", *arguments])
    assert devtools.test.main() == 0
    page = (
        tree.cache_folder() / f"packages-{sys.version_info[0]}.{sys.version_info[1]}" / "comfyui-frontend-package-0.2.3"
    )
    assert seen == [([sys.executable, "-m", "devtools.command", *started], str(host), str(page))]
