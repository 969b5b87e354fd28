"""Which layers a file's names mean: any prefix that leaves one answer, and no answer by chance."""

from __future__ import annotations

from functools import cache
from typing import Any

import comfy.lora
import family_models
import lora_states as states
import pytest
import torch
from semantic_steering.nodes.host.lora.fitting import fit
from slider_runs import load, merged, same, stock

FAMILIES = {
    **family_models.FAMILIES,
    "zimage": family_models.z_image,
    "qwen": family_models.qwen,
    "hunyuan": family_models.hunyuan_video,
}


@cache
def model(family: str):
    return FAMILIES[family]().model


@pytest.fixture(scope="module", autouse=True)
def models_go_before_the_host_does():
    yield
    model.cache_clear()


# Families, and the host's prefix of the names that they are renamed from: the model's own, and diffusers'.
OWN = [(name, "diffusion_model.") for name in ("sd", "sdxl", "sd3", "flux", "lumina", "zimage", "wan", "qwen")]
DIFFUSERS = [("sd3", "transformer."), ("flux", "transformer."), ("zimage", "transformer."), ("qwen", "transformer."),
             ("hunyuan", "transformer.")]  # fmt: skip
PREFIXES = [
    "transformer.", "diffusion_model.", "lora_unet_", "lycoris_", "lora_transformer_", "transformer.base_model.model.",
    "base_model.model.", "unet.base_model.model.", "", "lora_unet__", "model.diffusion_model.", "some.trainers.net.",
    "lora_of_another_kind_",
]  # fmt: skip


def names(family: str, known: str, keep: Any = lambda name: True) -> dict[str, tuple[int, ...]]:
    """{a name with the host's prefix `known`: the shape of its weight}, one name for each weight or part of one."""
    table = comfy.lora.model_lora_keys_unet(model(family).model, {})
    layers = states.targets(model(family), known, keep)
    if known == "diffusion_model.":  # of Z-Image also diffusers' names have this prefix
        layers = {name: shape for name, shape in layers.items() if table[name] == f"{name}.weight"}
    last = {table[name]: name for name in layers}
    return {name: layers[name] for name in last.values()}


def renamed(state: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    """Keys with another prefix; one that ends in _ goes with underscores between all words, as kohya writes them."""
    found = {}
    for key, value in state.items():
        name, end = key.removeprefix(old), ""
        for end in (".lora_down.weight", ".lora_up.weight", ".alpha"):
            if name.endswith(end):
                name = name.removesuffix(end)
                break
        found[new + (name.replace(".", "_") if new.endswith("_") else name) + end] = value
    return found


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("family", "known"), OWN + DIFFUSERS)
def test_any_prefix_is_the_hosts_loader_on_the_known_one(family, known, prefix):
    layers = names(family, known)
    state = states.kohya(layers)
    other = renamed(state, known, prefix)
    assert same(merged(load(model(family), other, 0.7)), merged(stock(model(family), (state, 0.7))))
    assert report(family, other) == f"matched {len(layers)} of {len(layers)} layers"


def report(family: str, state: dict[str, torch.Tensor]) -> str:
    return fit(model(family), None, state, "a slider").summary


XLABS = {
    "double_blocks.0.img_attn.qkv": "double_blocks.0.processor.qkv_lora1",
    "double_blocks.0.txt_attn.qkv": "double_blocks.0.processor.qkv_lora2",
    "double_blocks.0.img_attn.proj": "double_blocks.0.processor.proj_lora1",
    "double_blocks.0.txt_attn.proj": "double_blocks.0.processor.proj_lora2",
    "single_blocks.0.linear2": "single_blocks.0.processor.proj_lora",
}


@pytest.mark.parametrize("prefix", ["", "transformer.", "of_a_trainer."])
@pytest.mark.parametrize("blocks", ["double", "both"])
def test_xlabs_processors(blocks, prefix):
    """The host knows such files of all 57 blocks only."""
    kept = {own: theirs for own, theirs in XLABS.items() if blocks == "both" or own.startswith(blocks)}
    state = states.kohya(
        names("flux", "diffusion_model.", lambda n: n.removeprefix("diffusion_model.") in kept), 3, None
    )
    other = {}
    for key, value in state.items():
        name, end = key.removeprefix("diffusion_model.").split(".lora_")
        other[f"{prefix}{kept[name]}.{end}"] = value
    assert same(merged(load(model("flux"), other)), merged(stock(model("flux"), (state, 1.0))))
    assert report("flux", other) == f"matched {len(kept)} of {len(kept)} layers"


@pytest.mark.parametrize("prefix", ["lora_unet_", "net."])
def test_hunyuans_own_names(prefix):
    """musubi's: the published model's, of which the host's network has others."""
    own = {"img_attn.qkv": "img_attn_qkv", "img_mod.lin": "img_mod.linear", "img_mlp.0": "img_mlp.fc1",
           "txt_mlp.2": "txt_mlp.fc2", "txt_attn.proj": "txt_attn_proj"}  # fmt: skip
    known = {f"diffusion_model.double_blocks.0.{name}": f"double_blocks.0.{theirs}" for name, theirs in own.items()}
    state = states.kohya(names("hunyuan", "diffusion_model.", lambda name: name in known))
    other = {}
    for key, value in state.items():
        name = next(name for name in known if key.startswith(name + "."))
        theirs = known[name].replace(".", "_") if prefix.endswith("_") else known[name]
        other[prefix + theirs + key.removeprefix(name)] = value
    assert same(merged(load(model("hunyuan"), other)), merged(stock(model("hunyuan"), (state, 1.0))))
    assert report("hunyuan", other) == "matched 5 of 5 layers"


@pytest.mark.parametrize("prefix", ["transformer.", "lora_unet_", "", "transformer.base_model.model."])
def test_diffusers_names_of_wan(prefix):
    theirs = {
        "blocks.0.self_attn.q": "blocks.0.attn1.to_q", "blocks.0.self_attn.o": "blocks.0.attn1.to_out.0",
        "blocks.0.cross_attn.k": "blocks.0.attn2.to_k", "blocks.0.cross_attn.v": "blocks.0.attn2.to_v",
        "blocks.0.ffn.0": "blocks.0.ffn.net.0.proj", "blocks.0.ffn.2": "blocks.0.ffn.net.2",
        "time_embedding.2": "condition_embedder.time_embedder.linear_2",
        "text_embedding.0": "condition_embedder.text_embedder.linear_1",
        "time_projection.1": "condition_embedder.time_proj", "head.head": "proj_out",
    }  # fmt: skip
    shapes = names("wan", "diffusion_model.")
    state = states.kohya({f"diffusion_model.{own}": shapes[f"diffusion_model.{own}"] for own in theirs})
    other = states.kohya({f"net.{name}": shapes[f"diffusion_model.{own}"] for own, name in theirs.items()})
    other = renamed(other, "net.", prefix)
    assert same(merged(load(model("wan"), other)), merged(stock(model("wan"), (state, 1.0))))
    assert report("wan", other) == "matched 10 of 10 layers"


def test_split_attention_on_a_fused_one_written_out_by_hand():
    """W + s·α/r·B·A, in the rows of the fused layer that each of the three has."""
    ends = {"to_q": 0, "to_k": 48, "to_v": 96}
    state = states.kohya({f"lora_unet_layers_0_attention_{end}": (48, 48) for end in ends}, alpha=1.5)
    found = merged(load(model("zimage"), state, -0.5))
    key = "diffusion_model.layers.0.attention.qkv.weight"
    expected = model("zimage").model.state_dict()[key].clone()
    for end, row in ends.items():
        up, down = (state[f"lora_unet_layers_0_attention_{end}.lora_{part}.weight"] for part in ("up", "down"))
        expected[row : row + 48] += -0.5 * 1.5 / len(down) * up @ down
    assert list(found) == [key]
    assert torch.allclose(found[key], expected, atol=1e-6)


class TestNoReadingByChance:
    def test_a_layer_that_a_smaller_model_lacks_stays_out(self, caplog):
        """Its last words are another layer's whole name, of the same shape."""
        state = states.kohya(names("flux", "transformer."))
        shape = names("flux", "transformer.")["transformer.proj_out"]
        more = states.kohya({"transformer.single_transformer_blocks.7.proj_out": shape}, 99)
        assert same(merged(load(model("flux"), state | more)), merged(stock(model("flux"), (state, 1.0))))
        total = len(names("flux", "transformer.")) + 1
        said = report("flux", state | more)
        assert said.startswith(f"matched {total - 1} of {total} layers, 3 tensors not used: transformer.single_trans")
        assert "'transformer.single_transformer_blocks.7.proj_out' has no place in this model" in caplog.text

    def test_other_words_in_the_middle(self):
        state = states.kohya({"net.double_blocks.0.extra.img_attn.qkv": (144, 48)})
        with pytest.raises(
            ValueError, match=r"1 of 1 layers have no place in this model: net\.double_blocks\.0\.extra"
        ):
            report("flux", state)

    def test_a_second_model_in_the_file(self):
        """diffusers' names of Wan 2.2's second one."""
        state = states.kohya(names("wan", "diffusion_model."))
        second = renamed(states.kohya(names("wan", "diffusion_model."), 50), "diffusion_model.", "transformer_2.")
        assert same(merged(load(model("wan"), state | second)), merged(stock(model("wan"), (state, 1.0))))
        count = len(names("wan", "diffusion_model."))
        assert report("wan", state | second).startswith(f"matched {count} of {2 * count} layers, {3 * count} tensors")


class TestTwoReadings:
    def test_a_part_of_a_name_that_several_layers_end_in(self):
        state = states.kohya({"0.attention.qkv": (144, 48), "0.attention.out": (48, 48)})
        with pytest.raises(ValueError, match="two ways") as refused:
            report("zimage", state)
        text = str(refused.value)
        assert "a slider can be read in two ways that fit this model equally well (2 layers each)" in text
        assert "'0.attention." in text
        assert len({w for w in ("layers.0", "noise_refiner.0", "context_refiner.0") if w in text}) == 2

    def test_two_prefixes_for_the_same_layers(self):
        layers = names("wan", "diffusion_model.")
        state = renamed(states.kohya(layers), "diffusion_model.", "high.")
        state |= renamed(states.kohya(layers, 50), "diffusion_model.", "low.")
        with pytest.raises(ValueError, match=r"two ways .* 'high\..*' or 'low\..*' as 'diffusion_model\."):
            report("wan", state)


class TestAnotherFamily:
    def test_is_said_where_shapes_say_so(self):
        state = states.kohya({"net.middle_block.1.transformer_blocks.0.attn1.to_q": (320, 320)})
        with pytest.raises(ValueError, match="0 of 1") as refused:
            report("sd", state)
        text = str(refused.value)
        assert "'net.middle_block.1.transformer_blocks.0.attn1.to_q' is 320x320, the model's layer 64x64." in text
        assert "It was made for another model family" in text

    def test_is_not_said_of_names_alone(self):
        state = states.kohya({f"lora_unet_other_{i}": (8, 8) for i in range(5)})
        with pytest.raises(ValueError, match="5 of 5") as refused:
            report("sd", state)
        text = str(refused.value)
        assert "have no place in this model: lora_unet_other_0, lora_unet_other_1, lora_unet_other_2, …" in text
        assert "family" not in text
