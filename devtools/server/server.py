"""A real ComfyUI server as a subprocess, with this repository's pack and the demo's models in its base directory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from types import TracebackType

from demo.sliders import FILES

from ..environment import say
from ..host import ROOT, comfyui_path, has_accelerator
from ..processes import undisturbed
from .client import Client

PACK, DEMO_PACK = "semantic-steering", "semantic-steering-demo"
CHECKPOINT = "portraits.safetensors"
FOLDERS = ("custom_nodes", "models/checkpoints", "models/loras", "input", "output", "temp", "user")


class ServerError(Exception):
    """The server did not start as it should; the message ends with its log."""


def base_directory() -> Path:
    """This checkout's ComfyUI base directory; dev.py says so in SEMANTIC_STEERING_BASE."""
    return Path(os.environ["SEMANTIC_STEERING_BASE"])


def lay_out(base: Path) -> Path:
    """Make ComfyUI's folders in a base directory and link into them the pack, and the demo's pack, checkpoint and
    sliders."""
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    link(base / "custom_nodes" / PACK, ROOT)
    link(base / "custom_nodes" / DEMO_PACK, ROOT / "demo" / "host")
    checkpoint = ROOT / "demo" / "models" / CHECKPOINT
    if checkpoint.exists():
        link(base / "models" / "checkpoints" / CHECKPOINT, checkpoint)
    for slider in FILES.values():
        if slider.exists():
            link(base / "models" / "loras" / slider.name, slider)
    return base


def link(link: Path, target: Path) -> None:
    """Let `link` stand for `target`, replacing an older link."""
    if link.exists() and link.samefile(target):
        return
    if link.is_symlink() or link.exists():
        link.unlink()
    if os.name != "nt":
        link.symlink_to(target, target_is_directory=target.is_dir())
    elif target.is_dir():  # needs no special rights on Windows, unlike a symbolic link
        import _winapi

        _winapi.CreateJunction(str(target), str(link))  # pyright: ignore[reportAttributeAccessIssue]
    else:
        os.link(target, link)


def leave_when_terminated() -> None:
    """Let a request to terminate leave the `with` block of a Server, so that ComfyUI ends too. Further requests (a
    group of processes gets them from several sides) do not disturb that."""

    def leave(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(143)

    signal.signal(signal.SIGTERM, leave)


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """ComfyUI while the `with` block runs; stopped with all its children on the way out.

    base: a laid-out base directory, of its own for each of several servers. port: a free one if not given.
    flags: further command-line options such as `--cache-none`.
    """

    def __init__(self, base: Path, port: int | None = None, flags: tuple[str, ...] = (), timeout: float = 300.0):
        self.base, self.port, self.flags, self.timeout = base, port or free_port(), flags, timeout
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = Client(self.url)
        self.log_file = base / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        # The database stays in memory: its default place is ComfyUI's own folder, even with a base directory.
        command = [
            os.environ["COMFYUI_PYTHON"], str(comfyui_path() / "main.py"), "--base-directory", str(self.base),
            "--port", str(self.port), "--database-url", "sqlite:///:memory:",
            "--disable-api-nodes", "--disable-auto-launch", *self.flags,
        ]  # fmt: skip
        if not has_accelerator():
            command.append("--cpu")
        with socket.socket() as probe:  # else another server there would be taken for this one
            if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                raise ServerError(f"port {self.port} is in use; stop what runs there or choose another with --port")
        started = time.monotonic()
        try:
            with self.log_file.open("wb") as log:
                # A session of its own, so that Ctrl-C is this process's to handle and the whole tree can be stopped.
                self._process = subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.base,
                    start_new_session=True,
                )  # fmt: skip
            self._wait_until_ready(started + self.timeout)
            self._check_imports()
            # In here too: who reads this line may ask to terminate before the `with` block is entered.
            say(f"ComfyUI answers at {self.url} after {time.monotonic() - started:.0f} s; log: {self.log_file}")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def wait(self) -> int:
        """Wait until the server ends by itself."""
        assert self._process is not None  # only called inside the with block
        return self._process.wait()

    def stop(self) -> None:
        """End the server and everything it started."""
        with undisturbed():
            process, self._process = self._process, None
            if process is not None:
                _end(process)

    def _wait_until_ready(self, deadline: float) -> None:
        assert self._process is not None  # set just before
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerError(f"ComfyUI ended with code {self._process.returncode}:\n{self._tail()}")
            try:
                self.client.get("/system_stats")
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise ServerError(f"ComfyUI does not answer at {self.url} after {self.timeout:.0f} s:\n{self._tail()}")

    def _check_imports(self) -> None:
        """A pack that fails to import is only a line in the host's log; here it is an error.

        The host says the same of its own nodes when one of its optional packages is missing: those are its affair.
        """
        for line in self.log().splitlines():
            if ("IMPORT FAILED" in line or "Cannot import" in line) and "custom_nodes" in line:
                raise ServerError(f"ComfyUI could not import a pack:\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self.log().splitlines()[-60:])


def _end(process: subprocess.Popen[bytes]) -> None:
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], check=False, capture_output=True)
    else:
        _signal_group(process, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            say("ComfyUI does not end; killing it")
        _signal_group(process, signal.SIGKILL)  # also what it may have left behind
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return  # all of them have ended
