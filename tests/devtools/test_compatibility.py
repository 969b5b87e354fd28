"""docs/compatibility.md: made of the tests' outcomes, and in step with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import devtools.test
from devtools.release.compatibility import PAGE, Cell, Collector, cells_of, page

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = {"date": "2026-01-02", "comfyui": "0.1", "torch": "2.0", "python": "3.12"}
# Writes a page for a file of tests that is none of the suite's.
SCRIPT = f"""
import sys
from pathlib import Path
from devtools.release import compatibility

compatibility.PAGE = Path(sys.argv[1])
selected = "testpaths=" + sys.argv[2]
compatibility.SELECTION = ("-m", "compat", "-c", "pyproject.toml", "-p", "no:terminal", "-o", selected)
compatibility._versions = lambda: {VERSIONS}
compatibility.carried.of_the_nodes = lambda: "## What a model carries"
sys.exit(compatibility.write(sys.argv[3:]))
"""
TESTS = """
import pytest


@pytest.fixture(params=[
    pytest.param(1, marks=pytest.mark.compat(row="one", made="loader")),
    pytest.param(2, marks=pytest.mark.compat(row="two", made="class")),
])
def number(request):
    return request.param


@pytest.mark.compat(feature="A")
def test_works(number, record_property):
    record_property("peak", 2.5 * number)


@pytest.mark.compat(feature="A")
def test_works_too(number):
    pass


@pytest.mark.compat(feature="B")
def test_refuses(number, record_property):
    with pytest.raises(ValueError) as refused:
        raise ValueError("never" if number == 1 else "not now")
    record_property("no", str(refused.value))


@pytest.mark.compat(feature="C")
def test_needs_a_gpu(number):
    if number == 1:
        pytest.skip("needs a GPU")


@pytest.mark.compat(table="combinations", row="ControlNet", feature="A")
def test_another_table():
    pass


def test_without_a_cell():
    raise AssertionError("not selected")
"""


def write(folder: Path, tests: str, *arguments: str) -> tuple[subprocess.CompletedProcess, Path]:
    file, target = folder / "test_some.py", folder / "page.md"
    file.write_text(tests, encoding="utf-8")
    command = [sys.executable, "-c", SCRIPT, str(target), str(file), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False), target


def test_outcomes_become_cells(tmp_path):
    done, target = write(tmp_path, TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    text = target.read_text(encoding="utf-8")
    assert "| one | yes | no (1) | not run (2) | loader; 2.5 GB of memory at most | not yet |" in text
    assert "| two | yes | no (3) | yes | class; 5.0 GB of memory at most | not yet |" in text
    assert "1. never\n2. needs a GPU\n3. not now" in text
    assert "| ControlNet | yes |" in text
    assert "\n\n## What a model carries\n\n## Not run" in text
    assert "2026-01-02, ComfyUI 0.1, torch 2.0, Python 3.12" in text
    families = {("families", row, feature) for row in ("one", "two") for feature in "ABC"}
    assert cells_of(text) == families | {("combinations", "ControlNet", "A")}


FAILING = TESTS.replace("pass", "assert number == 1", 1)


@pytest.mark.parametrize(
    ("tests", "arguments", "code", "why"),
    [
        (FAILING, [], 1, "not all tests passed"),
        (TESTS, ["-k", "refuses"], 0, "these are not all tests"),
        (TESTS, ["tests/core/test_windows.py"], 5, "not all tests passed"),  # none of these is marked
    ],
)
def test_a_page_is_written_for_all_tests_or_left_as_it_was(tests, arguments, code, why, tmp_path):
    (tmp_path / "page.md").write_text("before", encoding="utf-8")
    done, target = write(tmp_path, tests, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert f"left as it was: {why}" in done.stderr
    assert target.read_text(encoding="utf-8") == "before"


def test_an_empty_cell_is_no_cell():
    found = Collector({("families", "one", "A"): Cell(), ("families", "two", "B"): Cell(["never"])})
    text = page(found, VERSIONS, "", "")
    assert "| one | yes |  |" in text
    assert cells_of(text) == set(found.cells)


@pytest.mark.slow
@pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="needs ComfyUI: run `python dev.py test`")
def test_the_page_has_exactly_the_cells_that_the_tests_fill():
    command = [sys.executable, "-m", "devtools.release.compatibility", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = cells_of(PAGE.read_text(encoding="utf-8"))
    features = {feature for table, row, feature in cells if (table, row) == ("families", "SDXL, whole")}
    assert {"SEGA", "DDIM inversion", "DiffEdit mask", "DiffEdit sampler", "slider"} <= features


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        (["--co", "-q"], ["pytest", *devtools.test.LAST_LINES, "--co", "-q"]),
        (["--compat", "-k", "flux"], ["devtools.release.compatibility", "-k", "flux"]),
    ],
)
def test_the_option_of_dev_py_test(arguments, started, monkeypatch):
    commands = []

    def run(command, *_):
        commands.append(command)
        return 0

    monkeypatch.setattr(devtools.test, "run", run)
    monkeypatch.setattr(sys, "argv", ["devtools.test", *arguments])
    assert devtools.test.main() == 0
    assert commands == [[sys.executable, "-m", "devtools.command", *started]]
