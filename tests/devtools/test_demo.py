"""The demo's report, without a server."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from demo.portraits.attributes import ATTRIBUTES, INDEX
from demo.portraits.renderer import region
from devtools.demo.demo import leave_out
from devtools.demo.report import as_asked, asks, changes, judged, judged_sweep, meaning, summary
from devtools.demo.scenes import LEFT_OUT, SCENES, SLIDERS, Dial, dials, override, workflow_file
from devtools.demo.serve import EXAMPLE, place_example
from devtools.server.results import (
    AFTER,
    BEFORE,
    SWEPT,
    background_error,
    fetch,
    own_preview,
    psnr,
    with_previews,
)
from devtools.server.server import lay_out
from devtools.strips import rows, strip, thumbnail, tinted


class FixedJudge:
    """Sees these attributes in every picture. Its logits are the pictures' brightness."""

    def __init__(self, *present: str):
        self.answer = torch.full((1, len(ATTRIBUTES)), 0.1)
        for name in present:
            self.answer[0, INDEX[name]] = 0.9

    def probabilities(self, pictures):
        assert pictures.shape == (1, 3, 128, 128)
        assert 0 <= pictures.min() <= pictures.max() <= 1
        return self.answer

    def logits(self, pictures):
        return pictures.mean(dim=(1, 2, 3))[:, None].expand(-1, len(ATTRIBUTES))


PICTURE = Image.new("RGB", (128, 128), (250, 100, 0))


WORDS = {
    "glasses": ("attribute", "glasses"),
    "a smile": ("attribute", "smile"),
    "Gray hair": ("attribute", "gray_hair"),
    "man": ("attribute", "male"),
    "pencil sketch": ("style", "sketch"),
    "an oil painting": ("style", "painting"),
}


@pytest.mark.parametrize("text", WORDS)
def test_words_have_their_meaning(text):
    assert meaning(text) == WORDS[text]


def test_unknown_words_are_an_error():
    with pytest.raises(ValueError, match="no words for the concept 'a parrot'"):
        meaning("a parrot")


def test_what_cannot_be_judged_is_left_out():
    assert set(judged(FixedJudge("smile"), PICTURE, "photo")) == set(ATTRIBUTES)
    under_a_hat = judged(FixedJudge("hat"), PICTURE, "photo")
    assert set(ATTRIBUTES) - set(under_a_hat) == {"bald", "curls", "bangs", "gray_hair"}
    assert set(ATTRIBUTES) - set(judged(FixedJudge(), PICTURE, "sketch")) == {"makeup", "gray_hair"}


@pytest.mark.parametrize(("direction", "wanted", "unwanted"), [("add", 0.9, 0.1), ("remove", 0.1, 0.9)])
def test_as_asked(direction, wanted, unwanted):
    asked = {"attribute": "beard", "direction": direction}
    assert as_asked(asked, {"beard": wanted})
    assert not as_asked(asked, {"beard": unwanted})
    assert not as_asked(asked, {})


def test_the_summary_counts_only_what_had_to_change():
    asked = [{"attribute": "glasses", "direction": "add"}]
    rows = [
        {"asked": asked, "seconds": 2, "before": {"glasses": before}, "after": {"glasses": after}, "neutral": neutral}
        for before, after, neutral in ((0.1, 0.9, []), (0.1, 0.2, []), (0.9, 0.9, ["glasses"]))
    ]
    assert summary("one", rows) == "one: 3 pictures, 2.0 s each; add glasses 1 of 2"


def test_strips_show_small_pictures_large():
    sheet = strip([PICTURE, PICTURE], ["before", "after"], ["a line", "word " * 100])
    assert sheet.width >= 2 * 256
    colours = sheet.getcolors(sheet.width * sheet.height)
    assert max(count for count, colour in colours if colour == (250, 100, 0)) == 2 * 384 * 384


@pytest.mark.parametrize(("number", "across", "down"), [(2, 2, 1), (3, 3, 1), (4, 2, 2), (5, 3, 2), (7, 3, 3)])
def test_a_long_strip_is_broken_into_rows_as_full_as_each_other(number, across, down):
    sheet = rows([PICTURE] * number, ["a"] * number, 128, 3)
    one = strip([PICTURE], ["a"], [], 128)
    assert sheet.size == (across * 128 + (across + 1) * 12, down * one.height)
    colours = sheet.getcolors(sheet.width * sheet.height)
    assert max(count for count, colour in colours if colour == (250, 100, 0)) == number * 128 * 128


def test_captions_are_broken_where_they_say_so_and_where_they_are_too_wide():
    one = strip([PICTURE], ["a"], [], 128)
    assert strip([PICTURE], ["a\nb"], [], 128).height == one.height + 22
    assert strip([PICTURE] * 2, ["a", "word " * 8], [], 128).height > one.height + 22


def test_the_summary_says_what_stayed():
    row = {"asked": [], "seconds": 1, "before": {}, "after": {}, "neutral": []}
    kept = [{**row, "background_exact": exact} for exact in (True, True, False)]
    assert summary("mask", kept) == "mask: 3 pictures, 1.0 s each; background exact 2 of 3"
    again = [{**row, "psnr": value, "psnr_autoencoder": 31.0} for value in (30.0, 31.0)]
    assert summary("a", again).endswith("; reconstruction 30.5 dB (the autoencoder alone: 31.0 dB)")


class Pictures:
    """A client whose pictures are of the colour that their name says."""

    def view(self, image):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), image["filename"]).save(file, "png")
        return file.getvalue()


def test_the_pictures_of_every_strip_come_in_the_order_of_the_nodes():
    shown = {f"{AFTER} 2": "blue", f"{AFTER} 1": "green", BEFORE: "red", "3": "white"}
    outputs = {node: {"images": [{"filename": colour}]} for node, colour in shown.items()}
    colours = [picture.getpixel((0, 0)) for picture in fetch(Pictures(), outputs)]
    assert colours == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]


def test_all_pictures_of_a_sweep_are_judged_and_its_strip_is_the_workflows_own():
    swept = {"images": [{"filename": name} for name in ("red", "green", "blue")]}
    outputs = {SWEPT: swept, "10": {"images": [{"filename": "white"}]}}
    prompt = {name: {"class_type": "PreviewImage"} for name in outputs}
    colours = [picture.getpixel((0, 0)) for picture in fetch(Pictures(), outputs)]
    assert colours == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    shown = own_preview(Pictures(), prompt, outputs, "PreviewImage")
    assert shown is not None and shown.getpixel((0, 0)) == (255, 255, 255)
    assert own_preview(Pictures(), prompt, {SWEPT: swept}, "PreviewImage") is None
    assert own_preview(Pictures(), prompt, outputs, "DiffEditMask") is None


def test_a_sweep_is_judged_by_the_order_of_its_pictures():
    pictures = [Image.new("RGB", (128, 128), (value,) * 3) for value in (10, 30, 20, 200, 250)]
    found = judged_sweep(FixedJudge(), Dial("smile", (-2, -1, 0, 1, 2)), pictures)
    assert found["strengths"] == (-2, -1, 0, 1, 2)
    assert found["logits"] == pytest.approx([0.039, 0.118, 0.078, 0.784, 0.98])
    assert found["spearman"] == 0.9
    rising = [found, {**found, "spearman": 1.0}]
    rows = [{"asked": [], "seconds": 1, "before": {}, "after": {}, "neutral": [], "sweep": sweep} for sweep in rising]
    assert summary("a", rows) == "a: 2 pictures, 1.0 s each; Spearman 0.95, lowest 0.90"


def slider(kind, **inputs):
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


LOADERS = {
    "1": slider("SliderLoRALoader", lora_name="smiling.pt", strength=1.5),
    "2": slider("SliderLoRALoader", lora_name="professional.pt", strength=-1.0, model=["1", 0]),
}
SWEEP = {"1": slider("SliderSweep", lora_name="age.pt", strengths="-2, 0, 2")}


def test_sliders_say_what_is_asked():
    assert dials(LOADERS) == [Dial("smile", (1.5,)), Dial("makeup", (-1.0,))]
    assert asks(SCENES["slider_compose_four"], LOADERS) == (
        [{"attribute": "smile", "direction": "add"}, {"attribute": "makeup", "direction": "remove"}], "photo",
        "slider: smile +1.5, makeup -1",
    )  # fmt: skip
    assert asks(SCENES["slider_sweep_strip"], SWEEP) == (
        [{"attribute": "gray_hair", "direction": "add"}], "photo", "slider: gray hair -2 to +2",
    )  # fmt: skip


def test_the_demos_sliders_stand_for_the_published_ones_wherever_they_are():
    workflow = {
        "groups": [{"bounding": [0, 0, 10, 10]}],
        "nodes": [{"id": 1, "pos": [5, 5]}, {"id": 2, "pos": [50, 5]}],
    }
    scene = SCENES["slider_basic"]
    changed = override(workflow, LOADERS, "", 128, dataclasses.replace(scene, prompts={}), 1)
    assert [node["inputs"]["lora_name"] for node in changed.values()] == ["smile.safetensors", "makeup.safetensors"]
    assert set(SLIDERS.values()) <= set(ATTRIBUTES)


def test_a_strips_pictures_are_previewed():
    prompt = {"7": slider("LabelledStrip", images=["6", 0], labels=["5", 2])}
    added = {name: node for name, node in with_previews(prompt).items() if name not in prompt}
    assert {name: (node["class_type"], node["inputs"]) for name, node in added.items()} == {
        SWEPT: ("PreviewImage", {"images": ["6", 0]})
    }
    prompt["7"]["inputs"]["before"] = ["4", 0]
    added = {name: node for name, node in with_previews(prompt).items() if name not in prompt}
    assert {name: node["inputs"]["images"] for name, node in added.items()} == {
        f"{AFTER} 1": ["6", 0],
        BEFORE: ["4", 0],
    }


def test_a_training_shows_its_own_strip():
    prompt = {"9": slider("SliderTrainImages", strengths=""), "7": slider("SaveImage", images=["9", 2])}
    added = {name: node for name, node in with_previews(prompt).items() if name not in prompt}
    assert {name: node["inputs"] for name, node in added.items()} == {SWEPT: {"images": ["9", 2]}}
    assert dials(prompt) == [Dial("smile", (-2, -1, 0, 1, 2))]


def test_changes_name_every_asked_attribute():
    asked = [{"attribute": "smile", "direction": "add"}, {"attribute": "bangs", "direction": "remove"}]
    assert changes({"asked": asked, "before": {"smile": 0.1, "bangs": 1.0}, "after": {"smile": 0.9}}) == (
        "smile 0.10 > 0.90, bangs 1.00 > hidden"
    )


@pytest.mark.parametrize("number", [2, 5])
def test_a_thumbnail_shows_the_middle_of_every_picture(number):
    colours = [(50 * i, 0, 0) for i in range(number)]
    sheet = thumbnail([Image.new("RGB", (128, 128), colour) for colour in colours])
    assert sheet.size == (512, 256)
    assert [sheet.getpixel((int((i + 0.5) * 512 / number), 128)) for i in range(number)] == colours


def test_what_the_demo_cannot_run_is_said_and_its_tile_shows_no_result(tmp_path):
    lines = leave_out(tmp_path)
    assert [line.split(": left out, it ")[0] for line in lines] == list(LEFT_OUT)
    assert all(line.endswith(reason) for line, reason in zip(lines, LEFT_OUT.values(), strict=True))
    assert {file.stem for file in tmp_path.iterdir()} == set(LEFT_OUT)
    for made in tmp_path.iterdir():
        with Image.open(made) as picture, Image.open(workflow_file(made.stem).with_suffix(".jpg")) as committed:
            assert picture.size == (512, 256)
            difference = np.asarray(picture, float) - np.asarray(committed.convert("RGB"), float)
        assert np.abs(difference).mean() < 8  # fonts and compression differ between versions of the library


def test_the_background_stays_or_not():
    mask, after = Image.new("L", PICTURE.size), PICTURE.copy()
    mask.paste(1, (0, 0, 4, 4))  # the slightest mask is no background
    after.putpixel((3, 3), (0, 0, 0))
    assert background_error(PICTURE, after, mask) == 0
    after.putpixel((4, 3), (250, 98, 1))
    assert background_error(PICTURE, after, mask) == 2
    mask.paste(1, (0, 0, *mask.size))
    assert background_error(PICTURE, after, mask) == 0  # nothing is outside


def test_psnr():
    other = Image.new("RGB", (128, 128), (250, 100, 30))
    assert psnr(PICTURE, PICTURE) == math.inf
    assert psnr(PICTURE, other) == pytest.approx(10 * math.log10(255**2 * 3 / 30**2))


def test_what_is_asked_comes_from_the_scene_or_from_the_concepts():
    prompt = {"1": {"class_type": "SEGAConcept", "inputs": {"text": "gray hair", "direction": "remove", "scale": 3.0}}}
    assert asks(SCENES["sega_one_concept"], prompt) == (
        [{"attribute": "gray_hair", "direction": "remove"}], "photo", "- gray hair (3)",
    )  # fmt: skip
    asked, style, words = asks(SCENES["diffedit_replace"], {})
    assert (asked, style) == ([{"attribute": "glasses", "direction": "add"}], "photo")
    assert words == SCENES["diffedit_replace"].words


@pytest.mark.parametrize("name", [name for name, scene in SCENES.items() if scene.portrait is not None])
def test_portraits_are_as_the_scene_says(name):
    scene = SCENES[name]
    assert scene.portrait is not None
    for seed in scene.seeds:
        attributes = scene.portrait.describe(seed).attributes[0]
        assert {key: bool(attributes[INDEX[key]]) for key in scene.portrait.person} == scene.portrait.person
        assert all(bool(attributes[INDEX[key]]) != there for key, there in scene.asked.items())
        assert {picture.size for picture in scene.portrait.loaded(seed)} == {(128, 128)}


def test_the_painted_mask_covers_the_region_and_little_more():
    portrait = SCENES["diffedit_manual_mask"].portrait
    assert portrait is not None
    (loaded,), picture = portrait.loaded(1), portrait.picture(1)
    assert loaded.mode == "RGBA"
    hidden = np.asarray(loaded.getchannel("A")) == 0
    shown = region(portrait.describe(1), portrait.mask, 128)[0].numpy()
    assert hidden[shown].all()
    assert shown.sum() < hidden.sum() < 2.5 * shown.sum()
    assert np.array_equal(np.asarray(loaded.convert("RGB")), np.asarray(picture))  # colours stay under the mask


def test_strokes_cover_a_part_of_the_picture():
    portrait = SCENES["sdedit_strokes"].portrait
    assert portrait is not None
    for seed in range(8):
        painted = np.asarray(portrait.loaded(seed)[0]) != np.asarray(portrait.picture(seed))
        assert 0.02 < painted.any(-1).mean() < 0.3


def test_a_mask_is_shown_in_colour():
    mask = Image.new("L", PICTURE.size)
    mask.paste(255, (0, 0, 64, 128))
    shown = tinted(PICTURE, mask)
    assert shown.getpixel((100, 5)) == PICTURE.getpixel((100, 5))
    assert shown.getpixel((5, 5)) != PICTURE.getpixel((5, 5))


def test_the_page_finds_the_workflows_picture(tmp_path):
    place_example(lay_out(tmp_path))
    file = tmp_path / "input" / EXAMPLE
    with Image.open(file) as picture:
        assert picture.size == (128, 128)
    file.write_bytes(b"a picture of the user's own")
    place_example(tmp_path)
    assert file.read_bytes() == b"a picture of the user's own"
