"""Which layers a choice means, on the networks that families have; and what files call them."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import comfy.lora
import family_models
import pytest
import torch
from semantic_steering.nodes.host.training.layers import CHOICES, chosen

ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")
ROWS = {row.name: row for row in family_models.ROWS if not row.full_size}


def model_of(name: str) -> Any:
    """As much of a MODEL as the choice looks at: names and sizes, without weights."""
    row = ROWS[name]
    config = SimpleNamespace(unet_config=row.layout)
    return SimpleNamespace(model=SimpleNamespace(diffusion_model=row.network(row.layout), model_config=config))


def paths(name: str, choice: str) -> set[str]:
    return {layer.path.removeprefix("diffusion_model.") for layer in chosen(model_of(name), choice, 1)}


def authors(module: str) -> bool:
    """The authors' noxattn on c3lier, on diffusers' names: children of their Attention, ResnetBlock2D, Downsample2D and
    Upsample2D, without names that hold attn2 or time_embed."""
    return bool(re.search(r"_attn1_to_|_resnets_\d_|samplers_0_conv$", module)) and "attn2" not in module


@pytest.mark.parametrize("name", ["sd15", "sd2", "sdxl"])
def test_a_unets_default_is_the_authors(name):
    found = {layer.name for layer in chosen(model_of(name), "no cross-attention", 1)}
    every = {layer.name for layer in chosen(model_of(name), "all", 1)}
    assert found == {layer for layer in every if authors(layer)}
    assert len(found) > 40


@pytest.mark.parametrize("name", ROWS)
def test_no_choice_goes_outside_of_the_blocks(name):
    outside = re.compile(
        r"^(?:time|label|x_embed|t_embed|y_embed|img_in|txt_in|patch|text_emb|final|head|out\.|norm_out)"
    )
    for path in paths(name, "all"):
        assert not outside.search(path), path
    assert "input_blocks.0.0" not in paths(name, "all")


@pytest.mark.parametrize("name", ROWS)
def test_choices_are_parts_of_one_another(name):
    linear, everything = paths(name, "all linear"), paths(name, "all")
    assert paths(name, "self-attention") <= linear <= everything
    assert paths(name, "self-attention") <= paths(name, "no cross-attention") <= everything
    if name not in ("lumina", "zimage"):  # words and picture go through the same layers
        assert not paths(name, "cross-attention") & paths(name, "no cross-attention")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("flux", {"double_blocks.0.txt_attn.qkv", "double_blocks.0.txt_attn.proj"}),
        ("wan", {f"blocks.0.cross_attn.{part}" for part in "qkvo"}),
        ("qwen", {f"transformer_blocks.0.attn.{part}" for part in (*ADDED, "to_add_out")}),
        ("sd3", {f"joint_blocks.{i}.context_block.attn.{part}" for i, part in ((0, "qkv"), (0, "proj"), (1, "qkv"))}),
    ],
)  # fmt: skip
def test_cross_attention_is_where_the_words_are(name, expected):
    assert paths(name, "cross-attention") == expected


def test_the_pictures_side_of_flux():
    assert paths("flux", "no cross-attention") == {
        "double_blocks.0.img_attn.qkv", "double_blocks.0.img_attn.proj", "double_blocks.0.img_mlp.0",
        "double_blocks.0.img_mlp.2", "single_blocks.0.linear1", "single_blocks.0.linear2",
    }  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_the_host_knows_every_name(name):
    model = model_of(name)
    network = torch.nn.Module()
    network.diffusion_model = model.model.diffusion_model
    network.model_config = model.model.model_config
    table = comfy.lora.model_lora_keys_unet(network, {})  # type: ignore[arg-type]
    for layer in chosen(model, "all", 1):
        target = table[layer.name]
        assert (target if isinstance(target, str) else target[0]) == f"{layer.path}.weight"


def test_a_choice_without_layers_is_refused():
    with pytest.raises(
        ValueError, match=r"layers is 'cross-attention', of which this model .* has none; choose all lin"
    ):
        chosen(model_of("lumina"), "cross-attention", 1)


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match=f"layers is 'some'; it must be one of {', '.join(CHOICES)}"):
        chosen(model_of("sd15"), "some", 1)


def test_a_rank_above_the_smallest_layer_names_it():
    with pytest.raises(
        ValueError, match=r"rank is 300, more than the 256 that the smallest layer \('diffusion_model\.dou"
    ):
        chosen(model_of("flux"), "no cross-attention", 300)


def test_layers_without_a_weight_are_refused_with_what_to_load():
    class Packed(torch.nn.Module):
        in_features = out_features = 256

    model = model_of("flux")
    model.model.diffusion_model.double_blocks[0].img_attn.qkv = Packed()
    with pytest.raises(
        ValueError,
        match=r"is of class Packed, which has no weight that gradients could pass through; load .* fp8, int8 or nvfp4",
    ):
        chosen(model, "self-attention", 4)
