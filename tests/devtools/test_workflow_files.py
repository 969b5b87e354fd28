"""The workflow files obey the rules for what users open from the page's templates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from devtools.demo import SCENES, concepts, group_nodes, meaning, override
from devtools.workflows import load, to_prompt

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "workflows").glob("*.json"))
INFO = json.loads((Path(__file__).parent / "object_info.json").read_text(encoding="utf-8"))
RED = "#322"


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request):
    return request.param


@pytest.fixture
def workflow(file):
    return load(file)


def of_type(workflow, kind):
    return [node for node in workflow["nodes"] if node["type"] == kind]


def test_the_files_are_there():
    assert {"sega_one_concept", "sega_four_concepts", "sega_style"} <= {file.stem for file in FILES}


def test_names_suit_the_templates_page(file):
    assert file.stem.replace("_", "").isalnum()


def test_it_has_a_thumbnail(file):
    with Image.open(file.with_suffix(".jpg")) as picture:
        assert picture.size == (512, 256)


def test_it_is_small(workflow):
    """8 to 12 nodes; further links of a chain of concepts are not counted."""
    repeated = max(0, len(of_type(workflow, "SEGAConcept")) - 1)
    assert 8 <= len(workflow["nodes"]) - repeated <= 12


def test_it_names_a_public_checkpoint(workflow):
    (loader,) = of_type(workflow, "CheckpointLoaderSimple")
    (model,) = loader["properties"]["models"]
    assert [model["name"]] == loader["widgets_values"]
    assert model["url"].startswith("https://")
    assert model["url"].endswith(model["name"])
    assert model["directory"] == "checkpoints"
    (latent,) = of_type(workflow, "EmptyLatentImage")
    assert latent["widgets_values"] == [1024, 1024, 1]


def test_the_same_sampler_runs_twice_from_one_fixed_seed(workflow):
    before, after = of_type(workflow, "KSampler")
    assert before["widgets_values"] == after["widgets_values"]
    assert before["widgets_values"][1] == "fixed"
    prompt = to_prompt(workflow, INFO)
    first, second = (prompt[str(node["id"])]["inputs"] for node in (before, after))
    assert {name for name in first if first[name] != second[name]} == {"model"}
    assert prompt[first["model"][0]]["class_type"] == "CheckpointLoaderSimple"
    assert prompt[second["model"][0]]["class_type"] == "SEGAGuidance"


def test_it_ends_in_a_comparison(workflow):
    (compare,) = of_type(workflow, "ImageCompare")
    assert all(slot["link"] is not None for slot in compare["inputs"])
    assert compare["pos"][0] == max(node["pos"][0] for node in workflow["nodes"])


def test_one_note_and_only_the_concepts_are_red(workflow):
    (note,) = of_type(workflow, "Note")
    assert note["widgets_values"][0].startswith("Pick your checkpoint; change the red node")
    assert {node["type"] for node in workflow["nodes"] if node.get("color") == RED} == {"SEGAConcept"}
    assert all(node["color"] == RED for node in of_type(workflow, "SEGAConcept"))


def test_one_group_holds_checkpoint_size_and_prompts(workflow):
    inside = group_nodes(workflow)
    kinds = sorted(node["type"] for node in workflow["nodes"] if str(node["id"]) in inside)
    assert kinds == ["CLIPTextEncode", "CLIPTextEncode", "CheckpointLoaderSimple", "EmptyLatentImage"]


def test_nodes_do_not_overlap_and_links_run_to_the_right(workflow):
    boxes = {node["id"]: (*node["pos"], node["pos"][0] + node["size"][0], node["pos"][1] + node["size"][1])
             for node in workflow["nodes"]}  # fmt: skip
    title = 30
    for one, (left, top, right, bottom) in boxes.items():
        for other, (left2, top2, right2, bottom2) in boxes.items():
            apart = right <= left2 or right2 <= left or bottom <= top2 - title or bottom2 <= top - title
            assert one == other or apart, (one, other)
    for _, origin, _, target, *_ in workflow["links"]:
        assert boxes[origin][0] < boxes[target][0]


def test_links_agree_with_the_slots(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for link, origin, origin_slot, target, target_slot, kind in workflow["links"]:
        assert link in nodes[origin]["outputs"][origin_slot]["links"]
        assert nodes[target]["inputs"][target_slot]["link"] == link
        assert nodes[origin]["outputs"][origin_slot]["type"] == nodes[target]["inputs"][target_slot]["type"] == kind


def test_the_demo_replaces_only_the_group_and_the_seed(file, workflow):
    prompt = to_prompt(workflow, INFO)
    changed = override(workflow, prompt, "portraits.safetensors", 128, SCENES[file.stem], seed=99)
    inside = group_nodes(workflow)
    for node_id, node in prompt.items():
        differing = {name for name, value in node["inputs"].items() if changed[node_id]["inputs"][name] != value}
        if node_id in inside:
            assert differing
        else:
            assert differing == ({"seed"} if node["class_type"] == "KSampler" else set())


def test_the_demo_has_seeds_and_words_for_it(file, workflow):
    assert len(set(SCENES[file.stem].seeds)) >= 6
    kinds = {meaning(concept["text"])[0] for concept in concepts(to_prompt(workflow, INFO))}
    assert kinds == ({"style"} if "style" in file.stem else {"attribute"})
