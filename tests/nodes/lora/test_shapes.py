"""Layers whose stored weights do not have the layer's shape, or which have none: matched, hooked, or refused."""

from __future__ import annotations

import logging

import comfy.ops
import lora_states as states
import pytest
import quantised
import tiny_models
import torch
from quantised import NO_WEIGHT
from semantic_steering.nodes.host.lora.fitting import fit
from semantic_steering.nodes.host.lora.shapes import logical_shapes
from slider_runs import load, stock, sweep


def blocks(name: str) -> bool:
    return "_blocks" in name


def slider(model, write=states.peft, keep=blocks):
    return write(states.targets(model, "transformer.", keep))


@pytest.fixture(scope="module")
def hidden():
    """A model with layers without weights, and the plain one."""
    return quantised.flux(NO_WEIGHT)


@pytest.mark.parametrize("kind", quantised.FORMATS)
def test_shapes_are_those_of_the_plain_model(kind):
    pair = quantised.flux(kind)
    plain = {name: tuple(value.shape) for name, value in pair.plain.model.model.state_dict().items()}
    found = logical_shapes(pair.packed.model.model)
    assert {name: found[name] for name in plain} == plain


def test_the_layer_tells_what_a_column_of_bytes_stands_for():
    """As bitsandbytes keeps four-bit weights."""
    layer = torch.nn.Linear(8, 6)
    layer.weight = torch.nn.Parameter(torch.zeros(24, 1, dtype=torch.uint8), requires_grad=False)
    assert logical_shapes(torch.nn.Sequential(layer))["0.weight"] == (6, 8)


@pytest.mark.parametrize("kind", quantised.FORMATS)
def test_no_half_of_a_slider_where_some_layers_are_packed(kind, caplog):
    """The fused qkv packed, the output's projection plain: all of a file's layers are found."""
    pair = quantised.flux(kind, only=lambda name: name.endswith("attn.qkv.weight"))
    state = slider(pair.plain.model)
    with caplog.at_level(logging.WARNING):
        layers = fit(pair.packed.model, None, state, "slider")
    assert layers.matched == layers.total > 20
    assert not caplog.records
    start = pair.plain.noise(1)
    found = pair.packed.sample(load(pair.packed.model, state), start)
    right = pair.packed.sample(stock(pair.packed.model, (state, 1.0)), start)
    if kind == NO_WEIGHT:
        right = pair.plain.sample(stock(pair.plain.model, (state, 1.0)), start)
        assert tiny_models.relative(found, right) < 1e-5
    else:
        assert torch.equal(found, right)


def test_gguf_beside_weights_that_nothing_can_be_added_to():
    """A file whose other layers are in float8, of which there is no sum."""
    pair = quantised.flux("GGUF Q8_0")
    for family in (pair.packed, pair.plain):
        for name, module in family.model.model.named_modules():
            if name.endswith("modulation.lin") or name.endswith("mod.lin"):
                module.comfy_cast_weights = True
                weight = pair.plain.model.model.get_submodule(name).weight.to(torch.float8_e4m3fn)
                module.weight = torch.nn.Parameter(weight, requires_grad=False)
    state, start = slider(pair.plain.model), pair.plain.noise(2)
    found, right = (f.sample(sweep(f.model, state, "1, 0", channels=16), start) for f in (pair.packed, pair.plain))
    assert tiny_models.relative(found, right) < 1e-5
    whole = pair.packed.sample(load(pair.packed.model, state), start)
    assert torch.equal(whole, pair.packed.sample(stock(pair.packed.model, (state, 1.0)), start))
    assert tiny_models.relative(whole[:1], found[:1]) < 0.05  # the host rounds its sum to float8


class FusedFeedForward(torch.nn.Sequential):
    """The host's for Wan and LTX, from ComfyUI 0.33 on: the second layer is not called where it is an INT8 one."""

    def forward(self, x):
        return comfy.ops.linear_input_act(self[2], self[0](x), "gelu_tanh")


def test_a_sweep_reaches_layers_that_the_host_runs_without_calling_them():
    pair = quantised.flux("int8")
    for block in pair.packed.model.model.diffusion_model.double_blocks:
        block.img_mlp, block.txt_mlp = FusedFeedForward(*block.img_mlp), FusedFeedForward(*block.txt_mlp)
    state = slider(pair.plain.model, keep=lambda name: "ff.net.2" in name)
    fused, start = comfy.ops.linear_input_act, pair.plain.noise(2)
    found, right = (f.sample(sweep(f.model, state, "20, 0", channels=16), start) for f in (pair.packed, pair.plain))
    bare = pair.plain.sample(pair.plain.model, start)
    effect = tiny_models.relative(right[:1], bare[:1])
    assert effect > 0.05
    assert tiny_models.relative(found, right) < 0.02 < effect / 2
    assert comfy.ops.linear_input_act is fused


def test_layers_without_weights_that_a_model_runs_in_a_way_of_its_own(hidden):
    """As Nunchaku runs a feed-forward as one kernel."""
    model = hidden.packed.model
    mlp = model.model.diffusion_model.double_blocks[0].img_mlp

    def one_kernel(x):
        one, two = mlp[0], mlp[2]
        inner = torch.nn.functional.linear(x, one.unpacked, one.bias)
        return torch.nn.functional.linear(torch.nn.functional.gelu(inner, approximate="tanh"), two.unpacked, two.bias)

    mlp.forward = one_kernel
    try:
        patched, start = load(model, slider(hidden.plain.model)), hidden.plain.noise(1)
        with pytest.raises(ValueError, match=r"2 of the slider's layers, such as .*img_mlp.*SVDQW4A4Linear.*load this"):
            hidden.packed.sample(patched, start)
        attention = slider(hidden.plain.model, keep=lambda name: blocks(name) and "attn" in name)
        hidden.packed.sample(load(model, attention), start)
    finally:
        del mlp.forward


def test_layers_that_a_model_without_weights_does_not_have(hidden):
    """As where Nunchaku makes one layer of three."""
    state = slider(hidden.plain.model) | {
        "diffusion_model.double_blocks.0.img_attn.to_q.lora_A.weight": torch.zeros(3, 256),
        "diffusion_model.double_blocks.0.img_attn.to_q.lora_B.weight": torch.zeros(256, 3),
    }
    with pytest.raises(ValueError, match=r"1 of \d+ layers have no place.*class SVDQW4A4Linear.*to_q.*load this model"):
        load(hidden.packed.model, state)


def test_kinds_of_weights_that_need_a_weight(hidden):
    state = slider(hidden.plain.model, states.dora, lambda name: "attn.to_out.0" in name)
    patched = load(hidden.packed.model, state)
    with pytest.raises(ValueError, match=r"DoRA weights.*cannot act with layers without weights: load this model in"):
        hidden.packed.sample(patched, hidden.plain.noise(1))


class ComfyFluxWrapper(torch.nn.Module):
    """Nunchaku's Flux: the blocks are not Python's."""

    def __init__(self):
        super().__init__()
        self.x_embedder = torch.nn.Linear(64, 256)


def test_a_network_that_shows_no_layers():
    pair = quantised.flux("int8")
    state = slider(pair.plain.model)
    pair.packed.model.model.diffusion_model = ComfyFluxWrapper()
    with pytest.raises(
        ValueError, match=r"\(0 of \d+\), whose network is a ComfyFluxWrapper.*Load this model in another"
    ):
        load(pair.packed.model, state)
