"""Which of Wan 2.2's two models a file is for, where its name or its metadata tell."""

from __future__ import annotations

import family_models
import folder_paths
import lora_states as states
import pytest
import safetensors.torch
from semantic_steering.nodes import sliders
from slider_runs import FAMILY

WAN = family_models.wan().model


@pytest.fixture
def said(tmp_path, monkeypatch):
    """The text under a Slider LoRA Loader, for a file of this name and with this metadata."""
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    texts: list[str] = []
    monkeypatch.setattr(sliders, "show_text", texts.append)

    def loaded(name: str, metadata: dict[str, str] | None = None, model=WAN) -> str:
        prefix = "diffusion_model." if model is WAN else "lora_unet_"
        keep = (lambda name: "self_attn.q" in name) if model is WAN else states.ldm
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        safetensors.torch.save_file(states.kohya(states.targets(model, prefix, keep)), file, metadata)
        folder_paths.filename_list_cache.clear()
        sliders.SliderLoRALoader.execute(model, name, 1.0, 0.2)
        return texts[-1]

    return loaded


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors", "high"),
        ("wan2.2_i2v_lightx2v_4steps_lora_v1_low_noise.safetensors", "low"),
        ("Wan2.2-Lightning_T2V-A14B-4steps-lora_HIGH_fp16.safetensors", "high"),
        ("smile_LowNoise_Wan2.2.safetensors", "low"),
        ("wan22-i2v-HighNoise.safetensors", "high"),
        ("smile-low.safetensors", "low"),
        ("low/smile_high_noise.safetensors", "high"),
        ("smile_high_quality.safetensors", None),
        ("slow_highway_lowres.safetensors", None),
        ("high_low_merged.safetensors", None),
        ("smile.safetensors", None),
    ],
)
def test_by_its_name(said, name, which):
    text = said(name)
    assert (f", for the {which}-noise model (by its name), window" in text) == (which is not None)
    assert ("-noise model" in text) == (which is not None)


@pytest.mark.parametrize("which", ["high", "low"])
def test_by_its_metadata(said, which):
    """musubi writes the name of the model it trained on."""
    text = said("smile.safetensors", {"ss_sd_model_name": f"wan2.2_t2v_{which}_noise_14B_fp16.safetensors"})
    assert f"for the {which}-noise model (by its metadata)" in text


def test_not_where_the_metadata_name_both(said):
    models = {"ss_dit": "wan2.2_t2v_low_noise.safetensors", "ss_dit_high_noise": "wan2.2_t2v_high_noise.safetensors"}
    assert "-noise model" not in said("smile.safetensors", models)


def test_other_families_have_no_pair(said):
    assert "-noise model" not in said("smile_high_noise.safetensors", model=FAMILY.model)
