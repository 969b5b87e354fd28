"""The shipped sliders on the shipped checkpoint, through Slider LoRA Loader. Seeds here are used nowhere else."""

from __future__ import annotations

import comfy.lora
import comfy.lora_convert
import comfy.sd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from demo.config import CONFIG
from demo.laboratory import Laboratory
from demo.portraits.attributes import INDEX
from demo.training.sliders import Slider
from devtools.figures import sliders as evaluate_sliders

FILES = evaluate_sliders.files()
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
    assert layers == set(Slider(lab.model.model, CONFIG.sliders.rank).layers)
    with safe_open(FILES[name], framework="pt") as file:
        about = file.metadata()
    assert about["attribute"] == name and about["version"] == "1"
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


def test_the_training_hooks_compute_what_the_file_does():
    """The slider of the training, strength by strength, and its file through the host's own patches."""
    lab = Laboratory()  # the shared one may still carry what was last sampled with
    torch.manual_seed(0)
    slider = Slider(lab.model.model, CONFIG.sliders.rank)
    for adapter in slider.adapters.children():
        torch.nn.init.normal_(adapter.lora_up.weight, std=0.1)
    unet = lab.model.model.diffusion_model
    x, t, context = torch.randn(2, 4, 16, 16), torch.tensor([500.0, 100.0]), lab.encode(["", "a man"])[0][0]
    with torch.no_grad():
        plain = unet(x, t, context=context)
        with slider.applied(torch.tensor([1.5, 0.0])):
            hooked = unet(x, t, context=context)
        patched, _ = comfy.sd.load_lora_for_models(lab.model, None, slider.tensors(), 1.5, 0.0)
        patched.patch_model()
        try:
            expected = unet(x, t, context=context)
        finally:
            patched.unpatch_model()
        assert torch.equal(unet(x, t, context=context), plain)
    assert torch.equal(hooked[1], plain[1])
    assert (hooked[0] - plain[0]).abs().mean() > 0.03
    torch.testing.assert_close(hooked[0], expected[0], atol=0.005, rtol=0)  # the file is half precision


def test_rank_correlation_on_known_cases():
    strengths = (-1.0, 0.0, 1.0, 2.0)
    values = torch.tensor([[1.0, 2.0, 3.0, 9.0], [4.0, 3.0, 2.0, 1.0], [5.0] * 4, [1.0, 1.0, 2.0, 2.0]]).T
    found = evaluate_sliders.rank_correlations(strengths, values)
    torch.testing.assert_close(found.float(), torch.tensor([1.0, -1.0, 0.0, 0.894427]))  # 4/sqrt(5·4)
