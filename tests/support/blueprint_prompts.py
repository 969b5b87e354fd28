"""The pack's subgraph blueprints as prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from devtools.host import ROOT
from devtools.server.client import Prompt
from devtools.server.workflows import GRAPH_INPUT, load, to_prompt

FOLDER = ROOT / "subgraphs"
FILES = sorted(FOLDER.glob("*.json"))


def parts(file: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A file's content, its one node, and the subgraph that this node stands for."""
    content = load(file)
    (host,), (graph,) = content["nodes"], content["definitions"]["subgraphs"]
    return content, host, graph


def ends(graph: dict[str, Any], name: str) -> list[tuple[str, str]]:
    """Where an input of the subgraph leads: inner nodes' ids in a prompt and their inputs' names."""
    slot = [entry["name"] for entry in graph["inputs"]].index(name)
    nodes = {node["id"]: node for node in graph["nodes"]}
    return [
        (f"1:{link['target_id']}", nodes[link["target_id"]]["inputs"][link["target_slot"]]["name"])
        for link in graph["links"]
        if (str(link["origin_id"]), link["origin_slot"]) == (GRAPH_INPUT, slot)
    ]


def inserted(file: Path, info: dict[str, Any], **given: Any) -> tuple[Prompt, dict[str, list[Any]]]:
    """The blueprint's nodes as a prompt, with these values or outputs of other nodes at its inputs; and its outputs."""
    content, _, graph = parts(file)
    prompt = to_prompt(content, info)
    for name, value in given.items():
        for node, key in ends(graph, name):
            prompt[node]["inputs"][key] = value
    origins = {link["id"]: [f"1:{link['origin_id']}", link["origin_slot"]] for link in graph["links"]}
    return prompt, {slot["name"]: origins[slot["linkIds"][0]] for slot in graph["outputs"]}
