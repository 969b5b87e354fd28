"""`dev.py test`: in how many processes and threads, the part of a day, and what its last lines say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from parity import without_diffusers

import devtools.test
from devtools.host import NO_DIFFUSERS

ROOT = Path(__file__).resolve().parents[2]
SEVERAL = ["-n", "2", "-p", "devtools.scheduling", "--dist", "loadfile", "--no-loadscope-reorder"]


@pytest.mark.parametrize(
    ("arguments", "processors", "expected"),
    [
        ([], 2, SEVERAL), (["-k", "sliders", "--durations=5"], 2, SEVERAL), ([], 1, []), ([], 64, ["-n", "4"]),
        (["tests/core"], 2, []), (["tests/core/test_windows.py::test_x"], 2, []), (["-n0"], 2, []), (["--pdb"], 2, []),
        (["--collect-only"], 2, []),
    ],
)  # fmt: skip
def test_the_whole_suite_runs_in_several_processes_and_named_tests_in_one(arguments, processors, expected):
    found = devtools.test.parallel(arguments, processors)
    assert found[: len(expected)] == expected
    assert bool(found) is bool(expected)


@pytest.fixture
def started(monkeypatch):
    """Starts the command on a machine of 12 processors; returns pytest's arguments, and the threads of a process."""
    seen = []

    def run(command, _, variables):
        assert command[:4] == [sys.executable, "-m", "devtools.command", "pytest"]
        seen.append((command[4:], variables.get("OMP_NUM_THREADS")))
        return 0

    def start(*arguments):
        monkeypatch.setattr(sys, "argv", ["devtools.test", *arguments])
        assert devtools.test.main() == 0
        return seen.pop()

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(devtools.test, "run", run)
    monkeypatch.setattr(devtools.test.os, "cpu_count", lambda: 12)
    return start


def test_the_processes_share_the_processors(started):
    whole, threads = started()
    assert (whole[-7:-5], threads) == (["-n", "4"], "3")
    part, threads = started("tests/core")
    assert (part[-1], threads) == ("tests/core", None)


def test_the_days_part_is_the_mathematics_and_the_nodes_without_slow_tests(started):
    arguments, threads = started("--fast", "-x")
    assert arguments[-5:] == ["tests/core", "tests/nodes", "-m", "not slow", "-x"]
    assert "-n" in arguments and threads == "3"


TESTS = {
    "tests/core/test_a.py": "def test_a(): pass\n",
    "tests/nodes/sega/test_b.py": "import time\ndef test_b(): time.sleep(0.3)\n",
    "tests/nodes/test_c.py": f"import pytest\n@pytest.fixture\ndef unet(): pytest.skip({NO_DIFFUSERS!r})\n"
    "def test_c(unet): pass\ndef test_d(unet): pass\ndef test_e(): pytest.skip('no GPU')\n",
    "pytest.ini": "",
}


@pytest.mark.parametrize("processes", [[], ["-n", "2"]], ids=["one process", "several"])
def test_the_last_lines_say_what_took_long_and_what_was_not_compared(processes, tmp_path):
    if processes:
        pytest.importorskip("xdist")
    for name, text in TESTS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", *devtools.test.LAST_LINES, *processes, str(tmp_path / "tests")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, last = done.stdout.splitlines()
    assert "2 passed, 3 skipped in" in last
    assert lines[-1] == f"2 tests that compare with the authors' code were skipped: {NO_DIFFUSERS}"
    rooms = [line.split() for line in lines[-4:-1]]
    assert rooms[0][1] == "tests/nodes/sega" and 0.3 <= float(rooms[0][0]) < 5
    assert {room for _, room in rooms[1:]} == {"tests/core", "tests/nodes"}
    assert "seconds by room" in lines[-5]
    assert any("0.3" in line and "call" in line and "test_b" in line for line in lines), "pytest's own slowest tests"


def test_a_run_that_compared_everything_says_nothing(tmp_path):
    (tmp_path / "test_a.py").write_text(TESTS["tests/core/test_a.py"])
    command = [sys.executable, "-m", "pytest", *devtools.test.LAST_LINES, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "compare with" not in done.stdout


def test_without_diffusers_a_test_is_skipped_or_fails_where_it_is_required(monkeypatch):
    monkeypatch.delenv("SEMANTIC_STEERING_PARITY", raising=False)
    with pytest.raises(pytest.skip.Exception, match="diffusers is not here"):
        without_diffusers()
    monkeypatch.setenv("SEMANTIC_STEERING_PARITY", "required")
    with pytest.raises(pytest.fail.Exception, match="diffusers is not here"):
        without_diffusers()


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_continuous_integration_requires_the_comparison(tmp_path):
    """What .ci/run hands to dev.py, by a Python that shows it."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$SEMANTIC_STEERING_PARITY|$*"\n')
    python.chmod(0o755)
    variables = {name: value for name, value in os.environ.items() if name != "SEMANTIC_STEERING_PARITY"}
    variables["PYTHON"] = str(python)
    done = subprocess.run([str(ROOT / ".ci" / "run"), "-x"], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "required|dev.py test -x\n"
