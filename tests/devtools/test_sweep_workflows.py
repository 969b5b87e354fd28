"""The workflow files with a sweep: of a slider file, and of a slider that is trained first."""

from __future__ import annotations

import json
from pathlib import Path

from devtools.demo.scenes import dials, workflow_file
from devtools.server.workflows import load, to_prompt

INFO = json.loads((Path(__file__).parent / "object_info.json").read_text(encoding="utf-8"))


def test_a_sweep_is_one_run_whose_strip_is_shown():
    prompt = to_prompt(load(workflow_file("slider_sweep_strip")), INFO)
    by_kind = {node["class_type"]: (node_id, node["inputs"]) for node_id, node in prompt.items()}
    assert len(by_kind) == len(prompt) - 1  # nothing but the two prompts is there twice
    sweep, sampler = by_kind["SliderSweep"], by_kind["KSampler"][1]
    assert sampler["model"] == [sweep[0], 0]
    assert sampler["latent_image"] == [sweep[0], 1]
    assert by_kind["LabelledStrip"][1] == {"images": [by_kind["VAEDecode"][0], 0], "labels": [sweep[0], 2]}
    assert by_kind["SaveImage"][1]["images"] == [by_kind["LabelledStrip"][0], 0]
    (dial,) = dials(prompt)
    assert dial.strengths == (-2, -1, 0, 1, 2)


def test_a_slider_is_trained_then_swept_and_saved():
    prompt = to_prompt(load(workflow_file("slider_train_text")), INFO)
    by_kind = {node["class_type"]: (node_id, node["inputs"]) for node_id, node in prompt.items()}
    train, sweep = by_kind["SliderTrainText"], by_kind["SliderSweep"][1]
    assert (sweep["slider"], sweep["lora_name"]) == ([train[0], 0], "none")
    assert by_kind["SaveLoRA"][1]["lora"] == [train[0], 0]
    loader = by_kind["CheckpointLoaderSimple"][0]
    assert [train[1][name] for name in ("model", "clip", "vae")] == [[loader, 0], [loader, 1], [loader, 2]]
    assert sweep["model"] == [loader, 0]
    shown = {**INFO["SliderTrainText"]["input"]["required"], **INFO["SliderTrainText"]["input"]["optional"]}
    texts = {"target", "positive", "negative", "seed"}
    for name, value in train[1].items():  # its settings are the node's own
        assert isinstance(value, list) or name in texts or value == shown[name][1]["default"], name
    assert train[1]["positive"].startswith(train[1]["target"]) and train[1]["negative"].startswith(train[1]["target"])


def test_a_slider_is_trained_on_what_an_edit_changes():
    """The same noise, prompt and settings on both sides: the edit alone is what a pair differs in."""
    prompt = to_prompt(load(workflow_file("slider_train_images")), INFO)
    titled = {node["_meta"]["title"]: (node_id, node["inputs"]) for node_id, node in prompt.items()}
    (train,) = (node for node in prompt.values() if node["class_type"] == "SliderTrainImages")
    loader, before, after = (titled[name][0] for name in ("Load Checkpoint", "KSampler: before", "KSampler: after"))
    inputs = {name: value for name, value in train["inputs"].items() if isinstance(value, list)}
    positive = [titled["Positive prompt"][0], 0]
    assert inputs == {
        "model": [loader, 0], "before": [before, 0], "after": [after, 0], "conditioning": positive, "vae": [loader, 2],
    }  # fmt: skip
    shown = INFO["SliderTrainImages"]["input"]["required"]
    for name, value in train["inputs"].items():  # its settings are the node's own
        assert isinstance(value, list) or name == "seed" or value == shown[name][1]["default"], name
    (dial,) = dials(prompt)
    assert dial.strengths == (-2, -1, 0, 1, 2)


def test_a_subject_is_learnt_from_all_pictures_that_are_loaded():
    prompt = to_prompt(load(workflow_file("dreambooth_train")), INFO)
    by_kind = {node["class_type"]: (node_id, node["inputs"]) for node_id, node in prompt.items()}
    loaded = [node_id for node_id, node in prompt.items() if node["class_type"] == "LoadImage"]
    assert len(loaded) == 4
    batch, batched = by_kind["BatchImagesNode"]
    assert batched == {f"images.image{i}": [node_id, 0] for i, node_id in enumerate(loaded)}
    assert by_kind["ImageScaleToTotalPixels"][1]["image"] == [batch, 0]
    assert by_kind["VAEEncode"][1]["pixels"] == [by_kind["ImageScaleToTotalPixels"][0], 0]
    train = by_kind["DreamBoothTrain"][1]
    assert train["instance"] == [by_kind["VAEEncode"][0], 0]
    texts = {key: prompt[train[f"{key}_conditioning"][0]]["inputs"]["text"] for key in ("instance", "class")}
    assert set(texts["instance"].split()) - set(texts["class"].split()) == {"sks"}
    shown = INFO["DreamBoothTrain"]["input"]["required"]
    for name, value in train.items():  # its settings are the node's own
        assert isinstance(value, list) or name == "seed" or value == shown[name][1]["default"], name
