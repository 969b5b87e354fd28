"""`dev.py test --compat --host PATH --frontend VERSION [PART ...]`: the parts of the suite on a ComfyUI tree.

Their outcomes go into hosts.json, and from there into docs/compatibility.md, the README and pyproject.toml's
requires-comfyui. Tests of the page are kept for each version of the page, all others for each version of ComfyUI.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from ..host import ROOT, prepare_comfyui
from ..paths import write
from ..tree import FRONTEND

DATA = Path(__file__).with_name("hosts.json")
PARTS = ("core", "nodes", "server", "browser")
PAGE_PART = "browser"
TITLE = "## ComfyUI versions"
TEXT = """The suite's parts on whole trees of ComfyUI with the packages that they ask for, in numbers of tests: `core`
is the mathematics, without ComfyUI; `nodes` runs in its process, `server` over HTTP, `browser` in its page in Chromium,
which has versions of its own. Skipped are tests that need what the machine lacks, a GPU above all. Written by
`python dev.py test --compat --host PATH --frontend VERSION`. 0.33.0 was run as its main branch of nine days after that
release; its row is from before what nodes say after a run became the page's own."""
README_TITLE = "### ComfyUI versions"
README_TEXT = """Tests that passed, on random networks and the portraits model
([details](docs/compatibility.md#comfyui-versions)):"""


@dataclass(frozen=True)
class Record:
    """What a part of the suite gave on a ComfyUI. frontend: of the page, where the part looks at it, else empty."""

    comfyui: str
    part: str
    frontend: str
    date: str
    passed: int
    skipped: int
    failed: tuple[str, ...]  # ids of tests

    @property
    def key(self) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
        return _order(self.comfyui), PARTS.index(self.part), _order(self.frontend)

    @property
    def text(self) -> str:
        counts = {"passed": self.passed, "skipped": self.skipped, "failed": len(self.failed)}
        return ", ".join(f"{number:,} {what}" for what, number in counts.items() if number or what == "passed")


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def read() -> list[Record]:
    return [Record(**{**entry, "failed": tuple(entry["failed"])}) for entry in json.loads(DATA.read_text("utf-8"))]


@dataclass(eq=False)  # pytest keeps its plugins in sets
class Outcomes:
    """A pytest plugin that keeps each test's outcome."""

    of: dict[str, str] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed or self.of.get(report.nodeid, "passed") == "passed":
            self.of[report.nodeid] = report.outcome

    def record(self, part: str, comfyui: str, frontend: str) -> Record:
        of = {test: outcome for test, outcome in self.of.items() if test.startswith(f"tests/{part}/")}
        count = list(of.values()).count
        failed = tuple(test for test, outcome in of.items() if outcome == "failed")
        page = frontend if part == PAGE_PART else ""
        date = datetime.date.today().isoformat()
        return Record(comfyui, part, page, date, count("passed"), count("skipped"), failed)


def section(records: list[Record]) -> str:
    """The section of docs/compatibility.md."""
    columns = [(part, "") for part in PARTS if part != PAGE_PART] + [(PAGE_PART, page) for page in _pages(records)]
    titles = [f"{part}, frontend {page}" if page else part for part, page in columns]
    lines = [f"| ComfyUI | {' | '.join(titles)} |", "|" + "---|" * (len(columns) + 1)]
    failed: list[str] = []
    for comfyui in _hosts(records):
        cells = []
        for title, column in zip(titles, columns, strict=True):
            record = _at(records, comfyui, *column)
            cells.append(record.text if record else "not yet")
            failed += [f"- {comfyui}, {title}: `{test}`" for test in record.failed] if record else []
        lines.append(f"| {comfyui} | {' | '.join(cells)} |")
    listed = "\n".join(["Failed:", "", *failed]) if failed else ""
    return "\n\n".join(filter(None, [TITLE, TEXT, "\n".join(lines), listed]))


def readme_section(records: list[Record]) -> str:
    lines = ["| ComfyUI | nodes, in process and over HTTP | its page in Chromium |", "|---|---|---|"]
    for comfyui in _hosts(records):
        parts = [record for record in records if record.comfyui == comfyui and record.part != PAGE_PART]
        pages = [f"frontend {record.frontend}: {record.text}" for record in records
                 if record.comfyui == comfyui and record.part == PAGE_PART]  # fmt: skip
        lines.append(f"| {comfyui} | {_together(parts)} | {'; '.join(pages) or 'not yet'} |")
    return "\n\n".join([README_TITLE, README_TEXT, "\n".join(lines)])


def with_range(project: str, records: list[Record]) -> str:
    """pyproject.toml with the range of ComfyUI's versions on which every part has passed, with some page."""
    passed = []
    for comfyui in _hosts(records):
        own = [record for record in records if record.comfyui == comfyui]
        if {record.part for record in own if not record.failed} == {*PARTS}:
            passed.append(comfyui)
    line = f'requires-comfyui = ">={passed[0]},<={passed[-1]}"' if passed else r"\g<0>"
    return re.sub("(?m)^requires-comfyui = .*$", line, project)


def _together(records: list[Record]) -> str:
    """The sums of several parts."""
    if not records:
        return "not yet"
    failed = tuple(test for record in records for test in record.failed)
    passed, skipped = sum(record.passed for record in records), sum(record.skipped for record in records)
    return Record("", PARTS[0], "", "", passed, skipped, failed).text


def _hosts(records: list[Record]) -> list[str]:
    return sorted({record.comfyui for record in records}, key=_order)


def _pages(records: list[Record]) -> list[str]:
    return sorted({record.frontend for record in records if record.frontend}, key=_order)


def _at(records: list[Record], comfyui: str, part: str, page: str) -> Record | None:
    return next((r for r in records if (r.comfyui, r.part, r.frontend) == (comfyui, part, page)), None)


def written(records: list[Record]) -> dict[Path, str]:
    """The files that tell of the records, as they should be."""
    found = {}
    for name, text in (("docs/compatibility.md", section(records)), ("README.md", readme_section(records))):
        file = ROOT / name
        title = re.escape(text.partition("\n")[0])
        found[file] = re.sub(
            rf"(?ms)^{title}$.*?(?=^## |\Z)", lambda _, text=text: text + "\n\n", file.read_text("utf-8")
        )
    found[ROOT / "pyproject.toml"] = with_range((ROOT / "pyproject.toml").read_text("utf-8"), records)
    return found


def _versions() -> tuple[str, str]:
    """Of ComfyUI and of its page's package."""
    prepare_comfyui(cpu=True)
    import comfyui_version

    return comfyui_version.__version__, metadata.version(FRONTEND)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py test --compat --host PATH --frontend VERSION")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them if none is named")
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}")
    outcomes = Outcomes()
    code = pytest.main(["-q", *(f"tests/{part}" for part in parts)], plugins=[outcomes])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        sys.stderr.write(f"nothing is recorded: the run ended early, with code {int(code)}\n")
        return int(code)
    new = [outcomes.record(part, *_versions()) for part in parts]
    records = {record.key: record for record in [*read(), *new]}
    records = [records[key] for key in sorted(records)]
    write(DATA, json.dumps([asdict(record) for record in records], indent=1) + "\n")
    for file, text in written(records).items():
        write(file, text)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
