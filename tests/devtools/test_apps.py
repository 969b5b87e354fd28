"""The workflow files of a first day open in the page's App mode too: texts, dials and results, without the graph."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devtools.demo.scenes import workflow_file
from devtools.server.workflows import load

INFO = json.loads((Path(__file__).parent / "object_info.json").read_text(encoding="utf-8"))
FIRST = ("sega_one_concept", "slider_basic", "diffedit_replace")
RED = "#322"


@pytest.mark.parametrize("name", FIRST)
def test_what_it_shows_can_be_changed_there_and_is_a_result(name):
    workflow = load(workflow_file(name))
    data, nodes = workflow["extra"]["linearData"], {node["id"]: node for node in workflow["nodes"]}
    labels = []
    for node, widget in data["inputs"]:
        labels += [slot.get("label", widget) for slot in nodes[node]["inputs"] if slot["name"] == widget] or [widget]
        fields = INFO[nodes[node]["type"]]["input"]
        assert widget in {**fields["required"], **fields.get("optional", {})}
        linked = [slot for slot in nodes[node]["inputs"] if slot["name"] == widget and slot["link"] is not None]
        assert not linked, widget
    assert [nodes[node]["type"] for node in data["outputs"]] == ["LabelledStrip", "SaveImage"]
    assert len(labels) == len(set(labels))  # what tells one box from the other
    assert any(nodes[node].get("color") == RED for node, _ in data["inputs"])
