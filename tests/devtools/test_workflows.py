"""The conversion of workflow files, on small hand-made ones and classes recorded from a real server."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from devtools.server.workflows import WorkflowError, to_prompt

INFO = json.loads((Path(__file__).parent / "object_info.json").read_text(encoding="utf-8"))
SAMPLER = [7, "randomize", 20, 8.0, "euler", "normal", 1.0]
BYPASSED, MUTED = 4, 2


def node(node_id, kind, inputs=(), outputs=(), values=None, **more):
    """inputs: (name, type, link) or (name, type, link, widget's name); outputs: types."""
    slots = [
        {"name": n, "type": t, "link": link, **({"widget": {"name": w[0]}} if w else {})} for n, t, link, *w in inputs
    ]
    outs = [{"name": kind, "type": kind, "links": []} for kind in outputs]
    return {"id": node_id, "type": kind, "mode": 0, "inputs": slots, "outputs": outs, "widgets_values": values, **more}


def workflow(*nodes, links=(), subgraphs=()):
    return {"nodes": list(nodes), "links": list(links), "definitions": {"subgraphs": list(subgraphs)}}


def loader(node_id=1, **more):
    return node(node_id, "CheckpointLoaderSimple", (), ("MODEL", "CLIP", "VAE"), ["a.safetensors"], **more)


def sampler(node_id=9, model=None, seed=None, **more):
    inputs = [("model", "MODEL", model), ("positive", "CONDITIONING", None)]
    if seed is not None:
        inputs.append(("seed", "INT", seed, "seed"))
    return node(node_id, "KSampler", inputs, ("LATENT",), list(SAMPLER), **more)


def lora(node_id, link, **more):
    return node(
        node_id, "LoraLoaderModelOnly", [("model", "MODEL", link)], ("MODEL",), ["style.safetensors", 0.8], **more
    )


def subgraph(nodes, links, inputs=(), outputs=()):
    return {
        "id": "inner", "nodes": nodes, "links": links,
        "inputs": [{"name": name} for name in inputs], "outputs": [{"name": name} for name in outputs],
    }  # fmt: skip


def test_values_get_their_names_and_the_seeds_control_is_skipped():
    inputs = to_prompt(workflow(sampler()), INFO)["9"]["inputs"]
    names = ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")
    assert inputs == dict(zip(names, [7, 20, 8.0, "euler", "normal", 1.0], strict=True))


def test_links_become_references_in_both_forms():
    expected = ["1", 0]
    array, as_object = [5, 1, 0, 9, 0, "MODEL"], {
        "id": 5, "origin_id": 1, "origin_slot": 0, "target_id": 9, "target_slot": 0, "type": "MODEL",
    }  # fmt: skip
    for link in (array, as_object):
        assert to_prompt(workflow(loader(), sampler(model=5), links=[link]), INFO)["9"]["inputs"]["model"] == expected


def test_widgets_appended_since_take_their_defaults():
    values = ["glasses", "remove", 7.0, 0.3]  # a file from before threshold and end_percent
    inputs = to_prompt(workflow(node(1, "SEGAConcept", values=values)), INFO)["1"]["inputs"]
    assert inputs == {
        "text": "glasses", "direction": "remove", "scale": 7.0, "start_percent": 0.3, "threshold": 0.9,
        "end_percent": 1.0, "prompt": "",
    }  # fmt: skip


def test_a_widget_that_became_a_socket_keeps_its_place_and_takes_the_link():
    seed = node(2, "PrimitiveInt", (), ("INT",), [42, "fixed"])
    prompt = to_prompt(workflow(seed, sampler(seed=5), links=[[5, 2, 0, 9, 2, "INT"]]), INFO)
    assert prompt["9"]["inputs"]["seed"] == ["2", 0]
    assert prompt["9"]["inputs"]["steps"] == 20
    assert prompt["2"]["inputs"] == {"value": 42}


def test_a_primitive_node_is_a_value():
    seed = node(2, "PrimitiveNode", (), ("INT",), [42, "fixed"])
    prompt = to_prompt(workflow(seed, sampler(seed=5), links=[[5, 2, 0, 9, 2, "INT"]]), INFO)
    assert prompt["9"]["inputs"]["seed"] == 42
    assert set(prompt) == {"9"}


def test_an_upload_button_takes_a_place():
    assert to_prompt(workflow(node(1, "LoadImage", values=["a.png", "image"])), INFO)["1"]["inputs"]["image"] == "a.png"


def test_a_comparison_gets_the_value_that_files_do_not_store():
    prompt = to_prompt(workflow(node(1, "ImageCompare", values=[])), INFO)
    assert prompt["1"]["inputs"] == {"compare_view": {"__value__": ["", ""]}}


def test_reroutes_are_followed():
    first = node(2, "Reroute", [("", "*", 5)], ("MODEL",))
    second = node(3, "Reroute", [("", "*", 6)], ("MODEL",))
    links = [[5, 1, 0, 2, 0, "*"], [6, 2, 0, 3, 0, "MODEL"], [7, 3, 0, 9, 0, "MODEL"]]
    prompt = to_prompt(workflow(loader(), first, second, sampler(model=7), links=links), INFO)
    assert prompt["9"]["inputs"]["model"] == ["1", 0]
    assert set(prompt) == {"1", "9"}


def test_notes_are_left_out():
    assert to_prompt(workflow(node(1, "Note", values=["hello"]), node(2, "MarkdownNote", values=["*"])), INFO) == {}


def test_a_bypassed_node_hands_on_its_input_of_the_same_type():
    links = [[5, 1, 0, 2, 0, "MODEL"], [6, 2, 0, 9, 0, "MODEL"]]
    prompt = to_prompt(workflow(loader(), lora(2, 5, mode=BYPASSED), sampler(model=6), links=links), INFO)
    assert prompt["9"]["inputs"]["model"] == ["1", 0]
    assert set(prompt) == {"1", "9"}


def test_a_bypassed_node_without_such_an_input_hands_on_nothing():
    decode = node(2, "VAEDecode", [("samples", "LATENT", 5), ("vae", "VAE", None)], ("IMAGE",), mode=BYPASSED)
    save = node(3, "SaveImage", [("images", "IMAGE", 6)], (), ["name"])
    links = [[5, 9, 0, 2, 0, "LATENT"], [6, 2, 0, 3, 0, "IMAGE"]]
    assert "images" not in to_prompt(workflow(sampler(), decode, save, links=links), INFO)["3"]["inputs"]


def test_a_muted_node_is_left_out_with_its_links():
    links = [[5, 1, 0, 2, 0, "MODEL"], [6, 2, 0, 9, 0, "MODEL"]]
    prompt = to_prompt(workflow(loader(), lora(2, 5, mode=MUTED), sampler(model=6), links=links), INFO)
    assert set(prompt) == {"1", "9"}
    assert "model" not in prompt["9"]["inputs"]


def steered(host_inputs, values=None, **more):
    """loader -> [subgraph: LoRA -> sampler] -> decode. The LoRA's strength and the seed are the subgraph's inputs."""
    inner_lora = lora(1, 1)
    inner_lora["inputs"].append(
        {"name": "strength_model", "type": "FLOAT", "link": 2, "widget": {"name": "strength_model"}}
    )
    inner_links = [
        {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0, "type": "MODEL"},
        {"id": 2, "origin_id": -10, "origin_slot": 1, "target_id": 1, "target_slot": 1, "type": "FLOAT"},
        {"id": 3, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": "MODEL"},
        {"id": 4, "origin_id": 2, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "LATENT"},
    ]
    inner = subgraph([inner_lora, sampler(2, model=3)], inner_links, ("model", "strength"), ("LATENT",))
    host = node(5, "inner", host_inputs, ("LATENT",), values, **more)
    decode = node(6, "VAEDecode", [("samples", "LATENT", 11), ("vae", "VAE", 12)], ("IMAGE",))
    links = [[10, 1, 0, 5, 0, "MODEL"], [11, 5, 0, 6, 0, "LATENT"], [12, 1, 2, 6, 1, "VAE"]]
    return workflow(loader(), host, decode, links=links, subgraphs=[inner])


HOST_INPUTS = [("model", "MODEL", 10), ("strength", "FLOAT", None, "strength")]


def test_a_subgraph_is_flattened():
    prompt = to_prompt(steered(HOST_INPUTS), INFO)
    assert set(prompt) == {"1", "5:1", "5:2", "6"}
    assert prompt["5:1"]["inputs"] == {"lora_name": "style.safetensors", "strength_model": 0.8, "model": ["1", 0]}
    assert prompt["5:2"]["inputs"]["model"] == ["5:1", 0]
    assert prompt["6"]["inputs"] == {"samples": ["5:2", 0], "vae": ["1", 2]}


def test_a_subgraphs_values_replace_the_inner_ones():
    prompt = to_prompt(steered(HOST_INPUTS, [0.25]), INFO)  # a value for each input that has a widget
    assert prompt["5:1"]["inputs"]["strength_model"] == 0.25


def test_a_subgraphs_values_are_found_where_the_page_leaves_its_widgets_out():
    file = steered(HOST_INPUTS[:1], [0.25])
    assert to_prompt(file, INFO)["5:1"]["inputs"]["strength_model"] == 0.25


def test_a_subgraphs_proxy_widgets_replace_the_inner_ones():
    proxies = {"proxyWidgets": [["-1", "strength"], ["2", "seed"], ["2", "control_after_generate"], ["2", "steps"]]}
    file = steered(HOST_INPUTS, [0.25, 99, "fixed", None], properties=proxies)
    before = copy.deepcopy(file)
    prompt = to_prompt(file, INFO)
    assert prompt["5:1"]["inputs"]["strength_model"] == 0.25
    assert prompt["5:2"]["inputs"]["seed"] == 99
    assert prompt["5:2"]["inputs"]["steps"] == 20
    assert file == before


def test_a_subgraph_can_stand_in_another():
    file = steered(HOST_INPUTS)
    outer = subgraph(
        [node(3, "inner", [("model", "MODEL", 1)], ("LATENT",))],
        [[1, -10, 0, 3, 0, "MODEL"], [2, 3, 0, -20, 0, "LATENT"]],
        ("model",),
        ("LATENT",),
    )
    inner = file["definitions"]["subgraphs"][0]
    inner["links"] = [link for link in inner["links"] if link["id"] != 2]
    inner["nodes"][0]["inputs"].pop()
    file["definitions"]["subgraphs"].append({**outer, "id": "outer"})
    file["nodes"][1]["type"] = "outer"
    prompt = to_prompt(file, INFO)
    assert set(prompt) == {"1", "5:3:1", "5:3:2", "6"}
    assert prompt["5:3:1"]["inputs"]["model"] == ["1", 0]
    assert prompt["6"]["inputs"]["samples"] == ["5:3:2", 0]


@pytest.mark.parametrize("mode", [MUTED, BYPASSED])
def test_a_subgraph_that_does_not_run(mode):
    prompt = to_prompt(steered(HOST_INPUTS, mode=mode), INFO)
    assert set(prompt) == {"1", "6"}
    assert "samples" not in prompt["6"]["inputs"]


def info_with(kind, options=None):
    return {"Odd": {"input": {"required": {"odd": [kind, options or {}]}}, "display_name": "Odd"}}


UNKNOWN = {
    "no such node": (workflow(node(3, "Mystery")), INFO, "node 3 .Mystery.: the server has no such node"),
    "mode": (workflow(loader(3, mode=7)), INFO, "node 3 .CheckpointLoaderSimple.: mode 7"),
    "too many values": (workflow(node(3, "SaveImage", values=["a", "b"])), INFO, "node 3 .SaveImage.: .* 2 widget"),
    "named values": (workflow(node(3, "SaveImage", values={"a": "b"})), INFO, "node 3 .SaveImage.: .* not a list"),
    "dynamic input": (workflow(node(3, "Odd")), info_with("COMFY_AUTOGROW_V3"), "node 3 .Odd.: input 'odd'"),
    "other widget": (workflow(node(3, "Odd")), info_with("CURVE", {"socketless": True}), "node 3 .Odd.: input 'odd'"),
    "no default": (workflow(node(3, "Odd")), info_with("STRING"), "node 3 .Odd.: .* no value for 'odd'"),
    "random choice": (workflow(node(3, "CLIPTextEncode", values=["a {red|blue} hat"])), INFO, "node 3 .*random"),
    "empty primitive": (
        workflow(node(2, "PrimitiveNode", (), ("INT",)), sampler(seed=5), links=[[5, 2, 0, 9, 2, "INT"]]),
        INFO, "node 2 .PrimitiveNode.",
    ),
    "lost link": (workflow(sampler(model=5)), INFO, "link 5"),
    "lost origin": (workflow(sampler(model=5), links=[[5, 1, 0, 9, 0, "MODEL"]]), INFO, "node 1, which is not"),
    "lost host input": (steered(HOST_INPUTS[1:]), INFO, "node 5 .inner.: it has no input 'model'"),
    "lost proxy": (
        steered(HOST_INPUTS, [1], properties={"proxyWidgets": [["77", "seed"]]}), INFO, "node 5 .inner.: its widget"
    ),
    "wrong proxy": (
        steered(HOST_INPUTS, [1], properties={"proxyWidgets": [["2", "odd"]]}), INFO, "node 5:2 .KSampler.: .* 'odd'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNKNOWN)
def test_anything_unknown_is_an_error_that_names_the_node(case):
    file, info, message = UNKNOWN[case]
    with pytest.raises(WorkflowError, match=message):
        to_prompt(file, info)
