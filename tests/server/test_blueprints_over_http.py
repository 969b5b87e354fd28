"""The subgraph blueprints through the real server: offered, and the same as the nodes they stand for."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pytest
import torch
from blueprint_prompts import FILES, FOLDER, inserted
from PIL import Image
from server_prompts import CONCEPT, PICTURE, SAMPLING, guided, latent, node, plain, slider

from devtools.server.server import PACK

pytestmark = pytest.mark.server


def test_the_page_is_offered_the_files(server):
    offered = json.loads(server.client.get("/global_subgraphs"))
    ours = {key: entry for key, entry in offered.items() if entry["info"]["node_pack"] == f"custom_nodes.{PACK}"}
    assert {entry["name"] for entry in ours.values()} == {file.stem for file in FILES}
    for key, entry in ours.items():
        text = (FOLDER / f"{entry['name']}.json").read_text(encoding="utf-8")
        assert json.loads(server.client.get(f"/global_subgraphs/{key}"))["data"] == text


def test_change_one_thing_is_sega_guidance_before_the_sampler(server, object_info):
    outside = {
        "model": ["checkpoint", 0], "clip": ["checkpoint", 1], "vae": ["checkpoint", 2], "positive": ["positive", 0],
        "negative": ["negative", 0], "latent_image": ["latent", 0],
    }  # fmt: skip
    settings = {key: value for key, value in CONCEPT.items() if key != "end_percent"} | {"prompt": "a portrait"}
    inner, outputs = inserted(
        FOLDER / "Change one thing (SEGA).json", object_info, **outside, text="glasses", seed=1, **settings, **SAMPLING
    )
    prompt = plain(seed=1) | inner
    prompt["save"]["inputs"]["samples"] = outputs["latent"]
    prompt["show"] = node("PreviewImage", images=outputs["image"])
    edited = latent(server, prompt)
    expected = guided(seed=1)
    expected["guidance"]["inputs"] |= {"momentum_scale": 0.0, "threshold_over": "position"}  # as the blueprint has them
    (concept,) = [entry for entry in expected.values() if entry["class_type"] == "SEGAConcept"]
    concept["inputs"]["prompt"] = "a portrait"
    assert torch.equal(edited, latent(server, expected))
    assert not torch.equal(edited, latent(server, plain(seed=1)))


def test_edit_a_photo_keeps_every_pixel_outside_the_mask(server, object_info):
    inner, outputs = inserted(
        FOLDER / "Edit a photo (DiffEdit).json", object_info,
        image=["picture", 0], model=["checkpoint", 0], clip=["checkpoint", 1], vae=["checkpoint", 2],
        source="a portrait of a woman", target="a portrait of a woman with glasses",
        megapixels=0.01, threshold=0.2, grow=0, blur=0, steps=4,
    )  # fmt: skip
    prompt = {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name="random.safetensors"),
        "picture": node("LoadImage", image=PICTURE), **inner,
        "mask": node("MaskToImage", mask=outputs["mask"]),
        "edited": node("PreviewImage", images=outputs["image"]),
        "inside": node("PreviewImage", images=["mask", 0]),
        "before": node("PreviewImage", images=["1:1001", 0]),
    }  # fmt: skip
    assert inner["1:1001"]["class_type"] == "ImageScaleToTotalPixels"
    shown = server.client.run(prompt)
    before, edited, mask = (pixels(server, shown[key]["images"][0]) for key in ("before", "edited", "inside"))
    assert before.shape == edited.shape == mask.shape
    assert 0 < (mask > 0).mean() < 1
    differs = (before != edited).any(axis=-1)
    assert differs.any()
    assert not differs[(mask == 0).all(axis=-1)].any()


def pixels(server, image):
    return np.asarray(Image.open(BytesIO(server.client.view(image))).convert("RGB"), dtype=int)


@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_dial_a_slider_is_the_slider_loader(server, object_info, strength):
    inner, outputs = inserted(
        FOLDER / "Dial a slider.json", object_info,
        model=["checkpoint", 0], lora_name="good.safetensors", strength=strength, start_percent=0.2,
    )  # fmt: skip
    prompt = plain(seed=5) | inner
    prompt["sampler"]["inputs"]["model"] = outputs["model"]
    expected = slider(seed=5, file="good.safetensors", strength=strength, start_percent=0.2) if strength else plain(5)
    assert torch.equal(latent(server, prompt), latent(server, expected))
