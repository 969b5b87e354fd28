"""A pytest plugin for the end of a run: the seconds of each room of tests, and the comparisons that were not made."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from .host import NO_DIFFUSERS


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Before pytest's own last lines. With several processes their reports have all come to this one."""
    reports = [report for group in terminalreporter.stats.values() for report in group if hasattr(report, "duration")]
    seconds: Counter[str] = Counter()
    for report in reports:
        seconds[report.nodeid.partition("::")[0].rpartition("/")[0]] += report.duration
    terminalreporter.section("seconds by room, of all processes together")
    for room, total in seconds.most_common():
        terminalreporter.write_line(f"{total:8.1f}  {room}")
    missed = sum(report.skipped and NO_DIFFUSERS in str(report.longrepr) for report in reports)
    if missed:
        text = f"{missed} tests that compare with the authors' code were skipped: {NO_DIFFUSERS}"
        terminalreporter.write_line(text, yellow=True)
