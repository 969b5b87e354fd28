"""`dev.py test` in several processes: when, and with how many threads each."""

from __future__ import annotations

import subprocess
import sys

import pytest

import devtools.test

SEVERAL = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]


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


def test_the_processes_share_the_processors(monkeypatch):
    seen = {}

    def run(command, env, **_):
        seen[tuple(command[2:4])] = env.get("OMP_NUM_THREADS")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(devtools.test.os, "cpu_count", lambda: 12)
    for arguments in ([], ["tests/core"]):
        monkeypatch.setattr(sys, "argv", ["devtools.test", *arguments])
        assert devtools.test.main() == 0
    assert seen == {("pytest", "-n"): "3", ("pytest", "tests/core"): None}
