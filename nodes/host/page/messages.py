"""What the pack says under its nodes: English as text, and data that the page says in its own language.

A sentence is an id with values. `locales/<language>/main.json` has its words, in which {name} stands for a value.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[3] / "locales" / "en" / "main.json"
KEY = "semanticSteering"


class Message(str):
    """English, and `data` for the page: {"id", "values"}, {"join", "parts"} or {"input"}."""

    data: Any


@functools.cache
def english() -> dict[str, str]:
    return json.loads(FILE.read_text(encoding="utf-8"))[KEY]


def message(key: str, **values: str | int) -> Message:
    """The sentence of an id. values: other messages, numbers, and what has no language: names, figures."""
    return _made(english()[key].format_map(values), {"id": key, "values": {k: _data(v) for k, v in values.items()}})


def joined(separator: str, parts: Iterable[str]) -> Message:
    """Several in one, with a separator of the file's between them: line, comma, semicolon, or."""
    parts = list(parts)
    return _made(english()[separator].join(parts), {"join": separator, "parts": [_data(part) for part in parts]})


def lines(parts: Iterable[str]) -> Message:
    return joined("line", parts)


def input_name(node_id: str, name: str) -> Message:
    """An input, by the name that the page shows for it."""
    return _made(name, {"input": f"{node_id}.{name}"})


def _made(text: str, data: Any) -> Message:
    made = Message(text)
    made.data = data
    return made


def _data(value: str | int) -> Any:
    return value.data if isinstance(value, Message) else value
