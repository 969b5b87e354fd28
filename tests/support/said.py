"""English from what the page is sent as a node's text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "locales" / "en" / "main.json"
SENTENCES = json.loads(FILE.read_text(encoding="utf-8"))["semanticSteering"]


def words(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    if "input" in data:
        return data["input"].partition(".")[2]
    if "join" in data:
        return SENTENCES[data["join"]].join(map(words, data["parts"]))
    return SENTENCES[data["id"]].format(**{name: words(value) for name, value in data["values"].items()})
