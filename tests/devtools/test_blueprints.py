"""The subgraph blueprints are what the page and a user can work with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from blueprint_prompts import FILES, FOLDER, ends, inserted, parts

from devtools.server.workflows import GRAPH_INPUT, GRAPH_OUTPUT, to_prompt

INFO = json.loads((Path(__file__).parent / "object_info.json").read_text(encoding="utf-8"))
LOADERS = ("CheckpointLoaderSimple", "LoadImage", "UNETLoader", "VAELoader", "DualCLIPLoader")
# What a user gives each of them and gets from it. Values stand on the node.
SOCKETS = {
    "Change one thing (SEGA)": (
        ["model", "clip", "vae", "positive", "negative", "latent_image"], ["image", "latent"],
    ),
    "Edit a photo (DiffEdit)": (["image", "model", "clip", "vae"], ["image", "mask"]),
    "Dial a slider": (["model", "clip"], ["model", "clip"]),
}  # fmt: skip


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request):
    return request.param


def specs(kind):
    """An inner node's inputs by name, with whether they may be left open."""
    inputs = INFO[kind]["input"]
    required = {name: (spec, False) for name, spec in inputs.get("required", {}).items()}
    return required | {name: (spec, True) for name, spec in inputs.get("optional", {}).items()}


def test_the_files_are_there():
    assert {*FOLDER.iterdir()} == set(FILES)
    assert {file.stem for file in FILES} == set(SOCKETS)


def test_it_is_one_node_with_the_files_name(file):
    """The page takes the first node for the blueprint, and shows it by the file's name."""
    content, host, graph = parts(file)
    assert host["type"] == graph["id"]
    assert host["title"] == graph["name"] == file.stem
    assert content["links"] == []


def test_it_can_be_found(file):
    content, _, graph = parts(file)
    assert graph["category"] == "semantic steering"
    assert graph["description"] == content["extra"]["BlueprintDescription"]
    assert graph["description"].endswith(".")
    assert len(content["extra"]["BlueprintSearchAliases"]) >= 5


def test_its_sockets_are_what_a_user_has(file):
    _, host, graph = parts(file)
    inputs, outputs = SOCKETS[file.stem]
    assert [slot["name"] for slot in host["inputs"] if "widget" not in slot] == inputs
    assert [slot["name"] for slot in host["outputs"]] == [slot["name"] for slot in graph["outputs"]] == outputs
    assert [(slot["name"], slot["type"], slot.get("label")) for slot in host["inputs"]] == [
        (slot["name"], slot["type"], slot.get("label")) for slot in graph["inputs"]
    ]


def test_its_links_agree_with_the_slots(file):
    _, _, graph = parts(file)
    nodes = {str(node["id"]): node for node in graph["nodes"]}
    nodes[GRAPH_INPUT] = {"outputs": [{**slot, "links": slot["linkIds"]} for slot in graph["inputs"]]}
    nodes[GRAPH_OUTPUT] = {"inputs": [{**slot, "link": slot["linkIds"][0]} for slot in graph["outputs"]]}
    for link in graph["links"]:
        origin = nodes[str(link["origin_id"])]["outputs"][link["origin_slot"]]
        target = nodes[str(link["target_id"])]["inputs"][link["target_slot"]]
        assert link["id"] in origin["links"]
        assert target["link"] == link["id"]
        assert origin["type"] == target["type"] == link["type"]


def test_every_inner_input_has_a_value_within_its_bounds(file):
    _, _, graph = parts(file)
    prompt, _ = inserted(file, INFO, **{slot["name"]: ["outside", 0] for slot in graph["inputs"] if not widget(slot)})
    for entry in prompt.values():
        for name, (spec, optional) in specs(entry["class_type"]).items():
            assert optional or name in entry["inputs"], (entry["class_type"], name)
            value, bounds = entry["inputs"].get(name), spec[1] if len(spec) > 1 else {}
            if isinstance(value, int | float) and "min" in bounds:
                assert bounds["min"] <= value <= bounds["max"]


def widget(slot):
    return slot["type"] in {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def test_nothing_in_it_must_be_on_the_users_machine(file):
    content, _, graph = parts(file)
    assert not {node["type"] for node in graph["nodes"]} & set(LOADERS)
    text = json.dumps(content)
    assert not [end for end in (".safetensors", ".pt", ".ckpt", ".png", ".jpg", ":\\\\") if end in text]


def test_values_of_the_node_reach_the_inner_ones(file):
    content, host, graph = parts(file)
    shown = [slot["name"] for slot in host["inputs"] if "widget" in slot]
    assert host["widgets_values"] == []  # the inner nodes' values are the defaults
    host["widgets_values"] = [f"value of {name}" for name in shown]
    prompt = to_prompt(content, INFO)
    for name in shown:
        for node, key in ends(graph, name):
            assert prompt[node]["inputs"][key] == f"value of {name}"


def test_inner_nodes_do_not_overlap_and_links_run_to_the_right(file):
    _, _, graph = parts(file)
    boxes = {str(node["id"]): (*node["pos"], *node["size"]) for node in graph["nodes"]}
    boxes[GRAPH_INPUT], boxes[GRAPH_OUTPUT] = graph["inputNode"]["bounding"], graph["outputNode"]["bounding"]
    title = 30
    for one, (left, top, width, height) in boxes.items():
        for other, (left2, top2, width2, height2) in boxes.items():
            apart = left + width <= left2 or left2 + width2 <= left
            apart = apart or top + height <= top2 - title or top2 + height2 <= top - title
            assert one == other or apart, (one, other)
    for link in graph["links"]:
        assert boxes[str(link["origin_id"])][0] < boxes[str(link["target_id"])][0]


def test_the_slider_is_one():
    _, host, graph = parts(FOLDER / "Dial a slider.json")
    (dial,) = [node for node in graph["nodes"] if node["type"] == "PrimitiveFloat"]
    assert {key: dial["properties"][key] for key in ("min", "max", "step", "precision", "display")} == {
        "min": -3, "max": 3, "step": 0.1, "precision": 1, "display": "slider",
    }  # fmt: skip
    assert ends(graph, "strength") == [(f"1:{dial['id']}", "value")]
    assert "strength" in [slot["name"] for slot in host["inputs"] if "widget" in slot]


def test_the_masks_preview_is_shown_on_the_node():
    _, host, graph = parts(FOLDER / "Edit a photo (DiffEdit).json")
    (mask,) = [node for node in graph["nodes"] if node["type"] == "DiffEditMask"]
    assert [shown["sourceNodeId"] for shown in host["properties"]["previewExposures"]] == [str(mask["id"])]
