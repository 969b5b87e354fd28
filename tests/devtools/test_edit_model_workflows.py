"""The workflow files for edit models, which the demo does not run."""

from __future__ import annotations

import json
from pathlib import Path

from devtools.demo.scenes import workflow_file
from devtools.server.workflows import load, to_prompt

INFO = json.loads((Path(__file__).parent / "object_info.json").read_text(encoding="utf-8"))


def test_instruct_pix2pix_samples_the_guiders_own_latent():
    prompt = to_prompt(load(workflow_file("instruct_pix2pix")), INFO)
    by_kind = {node["class_type"]: (node_id, node["inputs"]) for node_id, node in prompt.items()}
    guider, sampler = by_kind["InstructPix2PixGuider"], by_kind["SamplerCustomAdvanced"][1]
    assert (sampler["guider"], sampler["latent_image"]) == ([guider[0], 0], [guider[0], 1])
    assert (guider[1]["text_scale"], guider[1]["image_scale"]) == (7.5, 1.5)
    assert by_kind["BasicScheduler"][1]["denoise"] == 1.0
    texts = {key: prompt[guider[1][key][0]]["_meta"]["title"] for key in ("positive", "negative")}
    assert texts == {"positive": "Instruction", "negative": "Negative prompt"}


def test_the_dial_is_marked_as_experimental_and_its_picture_is_the_reference():
    workflow = load(workflow_file("edit_model_dial"))
    (note,) = (node for node in workflow["nodes"] if node["type"] == "Note")
    assert note["title"].startswith("EXPERIMENTAL")
    assert "EXPERIMENTAL: not yet run on real weights." in note["widgets_values"][0]
    assert workflow["groups"][0]["title"].startswith("EXPERIMENTAL")
    prompt = to_prompt(workflow, INFO)
    (sampler, _) = (node["inputs"] for node in prompt.values() if node["class_type"] == "KSampler")
    guidance = prompt[sampler["positive"][0]]
    reference = prompt[guidance["inputs"]["conditioning"][0]]
    assert (guidance["class_type"], reference["class_type"]) == ("FluxGuidance", "ReferenceLatent")
    assert reference["inputs"]["latent"] == sampler["latent_image"]
    assert sampler["cfg"] == 1.0  # a guidance-distilled model: the concept's direction starts from the positive
