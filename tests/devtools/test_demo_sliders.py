"""The demo's sliders are what a user gets from Train Slider (Text)."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from demo.sliders import FILES, NAMES, TARGET, poles
from devtools.demo import sliders
from devtools.demo.scenes import SLIDERS

INFO = json.loads((Path(__file__).parent / "object_info.json").read_text(encoding="utf-8"))


def test_each_is_trained_at_the_nodes_defaults_and_saved_by_the_host():
    info = INFO["SliderTrainText"]["input"]
    prompt = sliders.training(INFO["SliderTrainText"])
    assert {node_id for node_id, node in prompt.items() if node["class_type"] == "SliderTrainText"} == set(NAMES)
    for name in NAMES:
        own = {"model", "clip", "target", "positive", "negative", "width", "height"}
        inputs = prompt[name]["inputs"]
        assert set(inputs) == set(info["required"])
        assert {key: value for key, value in inputs.items() if key not in own} == {
            key: spec[1]["default"] for key, spec in info["required"].items() if key not in own
        }
        assert (inputs["target"], inputs["positive"], inputs["negative"]) == (TARGET, *poles(name))
        saved = prompt[f"save {name}"]
        assert (saved["class_type"], saved["inputs"]["lora"]) == ("SaveLoRA", [name, 0])
    assert set(SLIDERS.values()) == set(FILES)


def test_the_hosts_file_becomes_the_demos(tmp_path):
    given = {"lora_unet_conv_in.alpha": torch.tensor(1.0), "lora_unet_conv_in.lora_up.weight": torch.rand(3, 4)}
    save_file(given, tmp_path / "saved.safetensors")
    file = tmp_path / "sliders" / "smile.safetensors"
    sliders.write("smile", tmp_path / "saved.safetensors", file)
    for key, value in load_file(file).items():
        assert torch.equal(value, given[key].half())
    with safe_open(file, framework="pt") as opened:
        about = opened.metadata()
    assert about["attribute"] == "smile" and about["positive"] == "a portrait of a person with a smile"
    with safe_open(FILES["smile"], framework="pt") as opened:
        assert opened.metadata() == about  # what is shipped was written by this
