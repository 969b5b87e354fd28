"""The shipped sliders on the shipped checkpoint, through Slider LoRA Loader. Seeds here are used nowhere else."""

from __future__ import annotations

import comfy.lora
import comfy.lora_convert
import comfy.sd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from demo.portraits.attributes import INDEX
from demo.sliders import FILES, TARGET, poles
from devtools.figures import sliders as evaluate_sliders

SEEDS = [6_700_000 + i for i in range(3)]


@pytest.mark.parametrize("name", FILES)
def test_the_stock_loader_maps_every_layer(lab, name, caplog):
    state = load_file(FILES[name])
    layers = {key.removesuffix(".alpha") for key in state if key.endswith(".alpha")}
    assert len(state) == 3 * len(layers)
    keys = comfy.lora.model_lora_keys_unet(lab.model.model, {})
    assert len(comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(state)), keys)) == len(layers)
    patched, _ = comfy.sd.load_lora_for_models(lab.model, None, dict(state), 1.0, 0.0)
    assert len(patched.patches) == len(layers)
    assert not caplog.records
    with safe_open(FILES[name], framework="pt") as file:
        about = file.metadata()
    assert about["attribute"] == name and about["version"] == "2"
    assert (about["target"], (about["positive"], about["negative"])) == (TARGET, poles(name))
    assert FILES[name].stat().st_size < 300_000


@pytest.mark.parametrize("name", FILES)
def test_the_dial_turns_its_attribute(lab, judge, name):
    """A zero slider moves nothing, a reversed one moves down."""
    slider = load_file(FILES[name])
    down, up = (
        judge.logits(evaluate_sliders.pictures(lab, evaluate_sliders.slide(lab, slider, strength), SEEDS, name))
        for strength in (-2.0, 2.0)
    )
    assert (up - down)[:, INDEX[name]].mean() >= 5


def test_rank_correlation_on_known_cases():
    strengths = (-1.0, 0.0, 1.0, 2.0)
    values = torch.tensor([[1.0, 2.0, 3.0, 9.0], [4.0, 3.0, 2.0, 1.0], [5.0] * 4, [1.0, 1.0, 2.0, 2.0]]).T
    found = evaluate_sliders.rank_correlations(strengths, values)
    torch.testing.assert_close(found.float(), torch.tensor([1.0, -1.0, 0.0, 0.894427]))  # 4/sqrt(5·4)
