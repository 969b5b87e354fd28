"""Ctrl-C in a command: no traceback, the exit status that shells have for it, and nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends Ctrl-C as POSIX does")


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs a text as a command's module; returns the process."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def start(text: str, *before: str) -> subprocess.Popen[str]:
        (tmp_path / "a_command.py").write_text(text)
        (tmp_path / "a_library.py").write_text(A_LIBRARY)
        return subprocess.Popen(
            [sys.executable, *(before or ("-m", "devtools.command", "a_command"))], cwd=ROOT, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    return start


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Once it has printed a line, as a terminal does: to all of its group."""
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


WAIT = "import time\nprint('begun', flush=True)\ntime.sleep(60)\n"
LIBRARY = """import time
try:
    print('begun', flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    raise ValueError
"""
DROPPED = """import time
class Thing:
    def __del__(self):
        print('begun', flush=True)
        time.sleep(1)
thing = Thing()
del thing
for _ in range(600):
    time.sleep(0.1)
"""


IMPORTING = """import a_library
import time
for _ in range(600):
    time.sleep(0.1)
"""
A_LIBRARY = """import time
print('begun', flush=True)
try:
    for _ in range(20):
        time.sleep(0.05)
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize(
    "text",
    [WAIT, LIBRARY, DROPPED, IMPORTING],
    ids=["anywhere", "made another error of", "in a destructor", "in an import"],
)
def test_a_command_ends_with_a_word(command, text):
    assert interrupted(command(text)) == (130, "[dev] stopped\n")


RUN = """import os, pathlib, sys
from devtools.processes import run
sys.exit(run({}, pathlib.Path.cwd(), os.environ))
"""
SLOW = """import signal, sys, time
try:
    print('begun', flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    print('ended well', file=sys.stderr)
    sys.exit(2)
"""


def test_who_waits_for_a_command_lets_it_end_as_it_likes(command):
    """pytest has servers to end, which subprocess.run would not give it the time for."""
    process = command(SLOW, "-c", RUN.format([sys.executable, "-m", "a_command"]))
    assert interrupted(process) == (130, "ended well\n")


@pytest.mark.parametrize(("ends", "status"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_a_commands_status_is_handed_on_as_shells_do(command, ends, status):
    process = command(f"import os, sys\n{ends}\n", "-c", RUN.format([sys.executable, "-m", "a_command"]))
    process.communicate(timeout=60)
    assert process.returncode == status


def test_a_second_interruption_leaves_no_server_behind(command):
    process = command(
        "import time\nfrom devtools.processes import undisturbed\nwith undisturbed():\n"
        "    print('begun', flush=True)\n    time.sleep(1)\n    print('all ended', flush=True)\n"
    )
    process.stdout.readline()
    for _ in range(5):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    assert process.communicate(timeout=60) == ("all ended\n", "")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_package.inside", "has no package that brings the module no_such_package: install it"),
        ("open('/absent/file')", r"/absent/file: No such file or directory (see whether its folder is there); at "),
        ("from devtools.environment import SetupError\nraise SetupError('why')", "[dev] why\n"),
    ],
    ids=["a missing package", "a place", "the set-up"],
)
def test_what_a_user_can_mend_is_a_sentence(command, text, said):
    process = command(text)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said in shown and "Traceback" not in shown


@pytest.mark.parametrize("text", ["1 / 0", "import devtools.no_such_module", "raise OSError('of no kind')"])
def test_an_error_of_ours_keeps_its_traceback(command, text):
    assert "Traceback" in command(text).communicate(timeout=60)[1]
