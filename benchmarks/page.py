"""The tables in docs/performance.md, each between two markers that name the benchmark and the kind of device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from devtools import paths

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
END = "<!-- end -->"


def caption(result: dict[str, Any]) -> str:
    """Where figures are from."""
    versions = f"torch {result['torch']}, ComfyUI {result['comfyui']}, {result['attention']}"
    return f"{result['date']}; {result['device']}; {versions}; `{result['command']}`"


def read(file: Path) -> dict[str, Any]:
    """The figures of an earlier run. Raises OSError, and ValueError for what is none."""
    needed = {"date", "kind", "device", "attention", "torch", "comfyui", "command", "rows"}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if needed <= found.keys() and all("benchmark" in row for row in found["rows"]):
            return found
    except (ValueError, AttributeError, TypeError):
        pass
    raise ValueError(f"{file} holds no figures of `dev.py bench --json`: name a file that it has written")


def write(page: Path, name: str, result: dict[str, Any], table: str) -> None:
    """Replace the table of one benchmark and its caption. Raises ValueError where the page has no place for it."""
    start = f"<!-- bench {name} on {result['kind']} -->"
    text = page.read_text(encoding="utf-8")
    if text.count(start) != 1:
        raise ValueError(f"{page.name} has {text.count(start)} places for this table; it needs one line {start}")
    before, rest = text.split(start)
    after = rest[rest.index(END) :]
    paths.write(page, f"{before}{start}\n{caption(result)}\n\n{table}\n{after}")
