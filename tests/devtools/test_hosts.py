"""Whole runs of the suite on several versions of ComfyUI and its page: how they are kept, and what the files say."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from devtools.environment import REQUIREMENTS
from devtools.release import hosts
from devtools.release.hosts import PARTS, Outcomes, Record

OLD, NEW = "0.9.1", "0.10.0"  # as text the other way round


def records(comfyui: str, *pages: str) -> list[Record]:
    parts = [Record(comfyui, part, "", "2026-01-02", 1000, 2, ()) for part in PARTS if part != "browser"]
    return [*parts, *(Record(comfyui, "browser", page, "2026-01-02", 30, 0, ()) for page in pages)]


BOTH = [*records(NEW, "1.47.12"), *records(OLD, "1.47.12", "1.9.0")]


def test_the_files_are_what_the_command_writes():
    for file, text in hosts.written(hosts.read()).items():
        assert file.read_text(encoding="utf-8") == text, f"{file.name}: run `python dev.py test --compat --host PATH`"


def test_the_oldest_and_the_newest_host_passed_every_part():
    """What fails on pages newer than ComfyUI's own is listed on the page of compatibility."""
    own = next(line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("comfyui-frontend-package"))
    assert [r for r in hosts.read() if r.failed and r.frontend in ("", own.partition("==")[2])] == []
    assert {r.part for r in hosts.read() if r.comfyui == "0.30.0"} == {*PARTS}


def test_a_row_for_each_comfyui_and_a_column_for_each_page():
    lines = hosts.section(BOTH).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| ComfyUI | core | nodes | server | browser, frontend 1.9.0 | browser, frontend 1.47.12 |"
    cell = "1,000 passed, 2 skipped"
    assert table[2] == f"| {OLD} | {cell} | {cell} | {cell} | 30 passed | 30 passed |"
    assert table[3] == f"| {NEW} | {cell} | {cell} | {cell} | not yet | 30 passed |"
    assert hosts.readme_section(BOTH).splitlines()[-1] == (
        f"| {NEW} | 3,000 passed, 6 skipped | frontend 1.47.12: 30 passed |"
    )


def test_failed_tests_are_named_and_counted():
    broken = [
        *BOTH[:3],
        replace(BOTH[3], failed=("tests/browser/test_x.py::test_a", "tests/browser/test_x.py::test_b")),
    ]
    text = hosts.section(broken)
    assert "| 30 passed, 2 failed |" in text
    assert f"- {NEW}, browser, frontend 1.47.12: `tests/browser/test_x.py::test_b`" in text
    assert "30 passed, 2 failed" in hosts.readme_section(broken)


def test_the_range_holds_what_passed_in_every_part():
    project = '[tool.comfy]\nrequires-comfyui = ">=0.1.0"\nother = 1\n'
    assert hosts.with_range(project, BOTH) == f'[tool.comfy]\nrequires-comfyui = ">={OLD},<={NEW}"\nother = 1\n'
    assert f'">={OLD},<={OLD}"' in hosts.with_range(project, [replace(BOTH[0], failed=("x",)), *BOTH[1:]])
    assert f'">={OLD},<={OLD}"' in hosts.with_range(project, BOTH[1:])
    assert hosts.with_range(project, []) == project


def test_a_test_counts_once_by_the_worst_of_its_reports():
    outcomes = Outcomes()
    reports = {
        "tests/nodes/a.py::passed": ["passed", "passed", "passed"],
        "tests/nodes/a.py::skipped": ["skipped", "passed"],
        "tests/nodes/sega/b.py::failed": ["passed", "failed", "passed"],
        "tests/nodes/sega/b.py::leaves": ["passed", "passed", "failed"],
        "tests/core/c.py::other": ["passed", "passed", "passed"],
    }
    for test, seen in reports.items():
        for outcome in seen:
            outcomes.pytest_runtest_logreport(SimpleNamespace(nodeid=test, outcome=outcome, failed=outcome == "failed"))
    found = outcomes.record("nodes", NEW, "1.47.12")
    assert (found.passed, found.skipped, found.frontend) == (1, 1, "")
    assert found.failed == ("tests/nodes/sega/b.py::failed", "tests/nodes/sega/b.py::leaves")
    assert outcomes.record("browser", NEW, "1.47.12").frontend == "1.47.12"


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs it with this outcome of pytest, on files of a project of its own; returns its code."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "compatibility.md").write_text("# C\n\n## ComfyUI versions\n\nold\n\n## Families\n\nx\n")
    (tmp_path / "README.md").write_text("a\n\n### ComfyUI versions\n\n## Limits\n")
    (tmp_path / "pyproject.toml").write_text('requires-comfyui = ">=0.1"\n')
    (tmp_path / "hosts.json").write_text("[]\n")
    monkeypatch.setattr(hosts, "ROOT", tmp_path)
    monkeypatch.setattr(hosts, "DATA", tmp_path / "hosts.json")
    monkeypatch.setattr(hosts, "_versions", lambda: (NEW, "1.47.12"))

    def run(code, *parts):
        def main(arguments, plugins):
            for argument in arguments[1:]:
                plugins[0].of[f"{argument}/x.py::test"] = "passed"
            return code

        monkeypatch.setattr(pytest, "main", main)
        monkeypatch.setattr("sys.argv", ["hosts", *parts])
        return hosts.main()

    return run


def test_a_part_replaces_its_own_record_and_the_files_follow(command, tmp_path):
    assert command(pytest.ExitCode.OK) == 0
    before = hosts.read()
    assert [record.part for record in before] == [*PARTS]
    assert command(pytest.ExitCode.TESTS_FAILED, "nodes") == 1
    assert hosts.read() == before
    page = (tmp_path / "docs" / "compatibility.md").read_text()
    assert page == f"# C\n\n{hosts.section(before)}\n\n## Families\n\nx\n"
    assert (tmp_path / "README.md").read_text() == f"a\n\n{hosts.readme_section(before)}\n\n## Limits\n"
    assert f'">={NEW},<={NEW}"' in (tmp_path / "pyproject.toml").read_text()


def test_a_run_that_ended_early_is_not_kept(command, capsys):
    assert command(pytest.ExitCode.INTERRUPTED, "core") == 2
    assert hosts.read() == []
    assert "nothing is recorded: the run ended early" in capsys.readouterr().err


def test_a_part_that_is_none_is_refused(command, capsys):
    with pytest.raises(SystemExit):
        command(pytest.ExitCode.OK, "docs")
    assert re.search("docs: the parts are core, nodes, server, browser", capsys.readouterr().err)
