"""dev.py: a line for each command, its arguments as they were given, paths as seen from where it was called."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.paths import CALLED_FROM, given

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dev(monkeypatch):
    """dev.py as a module; it puts the repository's root on the path, where it must not stay."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def host(tmp_path) -> dict[str, str]:
    """The variables of an existing ComfyUI, which is none, and this Python."""
    (tmp_path / "main.py").touch()
    (tmp_path / "comfy").mkdir()
    return {"COMFYUI_PATH": str(tmp_path), "COMFYUI_PYTHON": sys.executable}


def call(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run dev.py with the standard library alone."""
    command = [sys.executable, "-S", "-E", str(ROOT / "dev.py"), *arguments]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


def source(module: str) -> str:
    """The file that `python -m` runs."""
    path = ROOT.joinpath(*module.split("."))
    return (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


def test_the_help_has_one_line_for_each_command(dev):
    done = call("--help")
    assert done.returncode == 0, done.stderr
    for name, (what, _) in dev.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(what)}$", done.stdout, re.MULTILINE), name
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_every_command_is_a_file_that_reads_its_own_arguments(dev):
    modules = {name: module for name, (_, module) in dev.COMMANDS.items() if name != dev.ENV}
    assert len(modules) >= 9
    for name, module in modules.items():
        text = source(module)
        assert "sys.exit(main())" in text, name
        assert name == "test" or f'ArgumentParser(prog="dev.py {name}")' in text
        assert "type=Path" not in text, f"{name}: its paths are to be seen from where dev.py is called"


def test_an_unknown_command_is_refused_before_the_set_up(tmp_path):
    done = call("demmo", COMFYUI_PATH=str(tmp_path))
    assert done.returncode == 2
    assert "invalid choice: 'demmo' (choose from" in done.stderr
    assert "set-up" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["env", "--jsn"], "dev.py env: error: unrecognized arguments: --jsn"),
        (["bench", "nothing"], "dev.py bench: error: argument name: invalid choice: 'nothing'"),
        (["train-demo", "sliders"], "dev.py train-demo: error: unrecognized arguments: sliders"),
        (["test", "--fast", "--compat"], "dev.py test: error: argument --compat: not allowed with argument --fast"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_arguments_are_refused_in_the_commands_name(arguments, said, host):
    done = call(*arguments, **host)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_command_has_its_own_help(host):
    done = call("bench", "--help", **host)
    assert done.returncode == 0
    assert "only this benchmark [all]" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="the program of this test is a shell script")
def test_a_command_gets_its_arguments_as_they_are_and_the_folder_it_was_called_in(host, tmp_path):
    python, folder = tmp_path / "python", tmp_path / "some where"
    shown = f'pwd\necho "${CALLED_FROM}"\nprintf "%s|" "$@"\nexit 7\n'
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\n{shown}')
    python.chmod(0o755)
    folder.mkdir()
    done = call("test", "--help", "-k", "a b", "--", "-x", cwd=folder, **host | {"COMFYUI_PYTHON": str(python)})
    assert done.returncode == 7
    assert done.stdout.splitlines() == [
        str(ROOT),
        str(folder),
        "-m|devtools.command|devtools.test|--help|-k|a b|--|-x|",
    ]


def test_an_interrupted_set_up_says_how_to_go_on(dev, monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(dev, "named", interrupted)
    monkeypatch.setattr(sys, "argv", ["dev.py", "demo"])
    assert dev.main() == 130
    assert "run the command again to go on" in capsys.readouterr().err


def test_given_paths_are_seen_from_the_callers_folder(monkeypatch, tmp_path):
    monkeypatch.setenv(CALLED_FROM, str(tmp_path))
    (tmp_path / "named.safetensors").symlink_to(tmp_path / "blob")
    assert given("named.safetensors") == tmp_path / "named.safetensors", "a link keeps its name"
    assert given(str(ROOT)) == ROOT
    monkeypatch.delenv(CALLED_FROM)
    monkeypatch.chdir(tmp_path)
    assert given("out") == tmp_path / "out"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--port", "65536"], "--port: 65536 is no port: choose a number from 1 to 65535"),
        (["fuzz", "--minutes", "nan"], "--minutes: nan is not a number above 0"),
        (["fuzz", "--most", "0"], "--most: 0 is not a whole number above 0"),
        (
            ["bench", "--read", "dev.py"],
            "dev.py holds no figures of `dev.py bench --json`: name a file that it has written",
        ),
        (
            ["eval", "--json", "absent/figures.json"],
            "absent: No such file or directory (see whether its folder is there)",
        ),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_a_wrong_value_is_refused_before_anything_runs(arguments, said, host):
    done = call(*arguments, **host)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and "Traceback" not in done.stderr
