"""The text-encoder half of a file: it reaches the encoder whose shape it has."""

from __future__ import annotations

import comfy.model_patcher
import comfy.sd
import lora_states as states
import pytest
import tiny_models
import torch
from semantic_steering.nodes.host.lora.fitting import fit
from semantic_steering.nodes.sliders import SliderLoRALoader
from slider_runs import FAMILY, merged, same

# Widths and layers of CLIP-L and OpenCLIP-G, a little smaller.
SIZES = {"clip_l": (8, 2), "clip_g": (12, 3)}
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


def text_layers(encoder: str) -> dict[str, tuple[int, int]]:
    """{the published model's own name: shape}."""
    width, count = SIZES[encoder]
    return {
        f"text_model.encoder.layers.{i}.self_attn.{name}": (width, width) for i in range(count) for name in PROJECTIONS
    }


class Encoders(torch.nn.Module):
    """The weights of several text encoders, under the host's names."""

    def __init__(self, *encoders: str):
        super().__init__()
        weights = {
            f"{encoder}.transformer.{name}.weight": states.random(*shape, seed=i)
            for encoder in encoders
            for i, (name, shape) in enumerate(text_layers(encoder).items())
        }
        if "t5xxl" in encoders:
            for name in ("SelfAttention.q", "SelfAttention.v"):
                weights[f"t5xxl.transformer.encoder.block.0.layer.0.{name}.weight"] = states.random(16, 16, seed=90)
        for name, weight in weights.items():
            *path, last = name.split(".")
            module: torch.nn.Module = self
            for part in path:
                if part not in dict(module.named_children()):
                    module.add_module(part, torch.nn.Module())
                module = module.get_submodule(part)
            module.register_parameter(last, torch.nn.Parameter(weight, requires_grad=False))


SIZES |= {"t5xxl": (0, 0)}


def clip(*encoders: str) -> comfy.sd.CLIP:
    made = comfy.sd.CLIP(no_init=True)
    made.cond_stage_model = Encoders(*encoders)
    made.patcher = comfy.model_patcher.ModelPatcher(made.cond_stage_model, tiny_models.CPU, tiny_models.CPU)
    made.tokenizer, made.layer_idx, made.tokenizer_options = None, None, {}
    made.use_clip_schedule, made.apply_hooks_to_conds = False, None
    return made


def half(encoder: str, prefix: str, seed: int = 0, end: str = "lora_linear_layer.{}") -> dict[str, torch.Tensor]:
    names = text_layers(encoder)
    if prefix.endswith("_"):
        names = {name.replace(".", "_"): shape for name, shape in names.items()}
    found = states.kohya({prefix + name: shape for name, shape in names.items()}, seed, None)
    return {
        key.replace("lora_down", end.format("down")).replace("lora_up", end.format("up")): value
        for key, value in found.items()
    }


def patched(encoders: comfy.sd.CLIP, state: dict[str, torch.Tensor], strength: float = 0.7) -> dict[str, torch.Tensor]:
    return merged(SliderLoRALoader.execute(FAMILY.model, "none", strength, clip=encoders, slider=state).args[1].patcher)


def stock(encoders: comfy.sd.CLIP, state: dict[str, torch.Tensor], strength: float = 0.7) -> dict[str, torch.Tensor]:
    return merged(comfy.sd.load_lora_for_models(None, encoders, dict(state), 0, strength)[1].patcher)


@pytest.mark.parametrize("prefix", ["text_encoder_2.", "text_encoder.", "lora_te2_", "lora_te_", "lora_te1_", "te2.",
                                    "text_encoder_2_", ""])  # fmt: skip
@pytest.mark.parametrize("end", ["lora_linear_layer.{}", "lora_{}", "lora.{}"])
def test_openclip_g_reaches_the_second_encoder(prefix, end):
    """The published text sliders of SDXL call OpenCLIP-G `text_encoder`, as the first one."""
    encoders = clip("clip_l", "clip_g")
    expected = stock(encoders, half("clip_g", "text_encoder_2."))
    state = half("clip_g", prefix, end=end)
    assert same(patched(encoders, state), expected)
    assert all(key.startswith("clip_g.") for key in expected)
    assert fit(FAMILY.model, encoders, state, "a slider").summary == "text encoder 12 of 12 layers"


@pytest.mark.parametrize("prefix", ["text_encoder.", "lora_te_", "lora_te1_"])
def test_clip_l_stays_in_the_first(prefix):
    encoders = clip("clip_l", "clip_g")
    state = half("clip_l", prefix)
    assert same(patched(encoders, state), stock(encoders, state))
    assert fit(FAMILY.model, encoders, state, "a slider").summary == "text encoder 8 of 8 layers"


def test_both_in_one_file_beside_the_models_own_layers():
    encoders = clip("clip_l", "clip_g")
    state = half("clip_l", "lora_te1_", 1) | half("clip_g", "lora_te2_", 50)
    layers = states.targets(FAMILY.model, "lora_unet_", lambda name: "attn1_to_q" in name and states.ldm(name))
    both = state | states.kohya(layers)
    assert same(patched(encoders, both), stock(encoders, state))
    count = len(layers)
    found = fit(FAMILY.model, encoders, both, "a slider")
    assert found.summary == f"matched {count} of {count} layers, text encoder 20 of 20 layers"
    bare = fit(FAMILY.model, None, both, "a slider")
    assert bare.summary == (
        f"matched {count} of {count} layers, its text-encoder half (20 layers) is not used: connect clip"
    )


def test_the_third_encoder():
    """OneTrainer's names of T5 for SD 3."""
    encoders = clip("clip_l", "clip_g", "t5xxl")
    state = states.kohya({"lora_te3_encoder_block_0_layer_0_SelfAttention_q": (16, 16)})
    assert same(patched(encoders, state), stock(encoders, state))
    other = states.kohya({"te3.encoder.block.0.layer.0.SelfAttention.q": (16, 16)})
    assert same(patched(encoders, other), stock(encoders, state))


def test_a_half_that_fits_in_part_says_what_is_left():
    encoders = clip("clip_l")
    state = half("clip_l", "lora_te_", end="lora_{}") | states.kohya({"lora_te_text_model_final": (8, 8)})
    assert same(patched(encoders, state), stock(encoders, half("clip_l", "lora_te_", end="lora_{}")))
    assert fit(FAMILY.model, encoders, state, "a slider").summary == (
        "text encoder 8 of 9 layers, 3 tensors not used: lora_te_text_model_final.lora_down.weight, "
        "lora_te_text_model_final.lora_up.weight, lora_te_text_model_final.alpha"
    )


def test_an_encoder_of_another_shape_is_refused_with_both():
    with pytest.raises(ValueError, match=r"changes only text encoders \(12 layers\).* is 12x12, the model's layer 8x8"):
        fit(FAMILY.model, clip("clip_l"), half("clip_g", "text_encoder."), "a slider")
    with pytest.raises(ValueError, match=r"changes only text encoders \(12 layers\).*Connect clip"):
        fit(FAMILY.model, None, half("clip_g", "text_encoder."), "a slider")
