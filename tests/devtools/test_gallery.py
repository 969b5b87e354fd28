"""`dev.py gallery` without a server: its file with prompts, what follows from it, what is kept, and the page."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import devtools.gallery.plan
from devtools.demo.scenes import workflow_file
from devtools.gallery.checkpoints import Checkpoint
from devtools.gallery.gallery import PROMPTS, Gallery, chosen_family
from devtools.gallery.page import caption, measured, page, texts
from devtools.gallery.plan import Family, GalleryError, Plan, Scene, Wishes, plan, read, sliders, suited

ROOT = Path(__file__).resolve().parents[2]
INFO = json.loads((Path(__file__).parent / "object_info.json").read_text(encoding="utf-8"))
SLIDERS = {"smiling.pt", "age.pt", "eyesize.pt", "professional.pt"}
WISHES = read(PROMPTS)


def owned(family: str = "SDXL", sha256: str = "aa") -> Checkpoint:
    return Checkpoint(Path("somewhere/mine.safetensors"), family, sha256)


def planned(wishes: Wishes = WISHES, checkpoint: Checkpoint | None = None, loras: Path | None = None, **family) -> Plan:
    return plan(wishes, checkpoint or owned(), Family(**{"size": 1024, **family}), loras, INFO)


def changed(**scenes) -> Wishes:
    """The file with other values in some scenes."""
    content = copy.deepcopy(WISHES.model_dump())
    for name, values in scenes.items():
        content["scenes"][name] |= values
    return Wishes.model_validate(content)


@pytest.fixture
def loras(tmp_path):
    for name in SLIDERS:
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_the_file_has_a_scene_for_every_workflow():
    """But for the one that learns from pictures of somebody, whom the gallery does not know."""
    used = {workflow_file(scene.workflow) for scene in WISHES.scenes.values()}
    assert used == set((ROOT / "workflows").glob("*.json")) - {workflow_file("dreambooth_train")}


def test_every_scene_is_planned_or_left_out_with_a_reason(loras):
    made = planned(loras=loras)
    assert {job.name for job in made.jobs} | set(made.left_out) == set(WISHES.scenes)
    assert set(made.left_out) == {"winter", "edit_model"}
    assert {name for job in made.jobs for name in sliders(job.prompt)} == SLIDERS
    without = planned()
    assert set(without.left_out) - set(made.left_out) == {"one_slider", "four_sliders", "slider_sweep"}
    assert without.left_out["one_slider"] == "needs slider files (smiling.pt): give their folder with --loras"
    (loras / "eyesize.pt").unlink()
    reason = planned(loras=loras).left_out["four_sliders"]
    assert reason == "needs slider files (eyesize.pt): the folder of --loras does not hold them"


def test_an_instruction_needs_a_checkpoint_that_follows_it_and_the_reverse():
    made = planned(checkpoint=owned("SD15_instructpix2pix"))
    assert {job.name for job in made.jobs} == {"winter"}
    assert "this one follows instructions" in made.left_out["glasses"]


def test_every_scene_is_there_once_before_any_is_there_twice():
    wishes = changed(glasses={"seeds": [7, 8, 9]})
    made = planned(wishes).jobs
    first = list(dict.fromkeys(job.name for job in made))
    assert [job.name for job in made[: len(first)]] == first
    assert [job.seed for job in made if job.name == "glasses"] == [7, 8, 9]
    assert [job.seed for job in made if job.name == "autumn"] == WISHES.seeds


def values(prompt, kind: str, name: str) -> list:
    return [node["inputs"][name] for node in prompt.values() if node["class_type"] == kind]


def test_a_plan_has_checkpoint_size_texts_and_seed():
    by_name = {job.name: job for job in reversed(planned().jobs)}
    glasses, pears = by_name["glasses"], by_name["apples_to_pears"]
    assert values(glasses.prompt, "CheckpointLoaderSimple", "ckpt_name") == ["mine.safetensors"]
    assert values(glasses.prompt, "EmptyLatentImage", "width") == [1024]
    assert set(values(glasses.prompt, "KSampler", "seed")) == {1}
    assert values(glasses.prompt, "SEGAConcept", "text") == ["glasses"]
    assert "a photo of a woman" in texts(glasses.prompt)["Positive prompt"]
    assert glasses.source is None and pears.source is not None
    assert values(pears.prompt, "ImageScaleToTotalPixels", "megapixels") == [1.0]
    assert values(pears.prompt, "LoadImage", "image") == [pears.source.loaded]
    assert set(texts(pears.prompt).values()) == {"a photo of a bowl of red apples", "a photo of a bowl of pears"}
    made = pears.source.prompt
    assert values(made, "KSampler", "seed") == [1] and values(made, "EmptyLatentImage", "height") == [1024]
    assert values(made, "CLIPTextEncode", "text") == [WISHES.scenes["apples_to_pears"].picture, WISHES.negative]


def hashes(made: Plan) -> dict[tuple[str, int], str]:
    return {(job.name, job.seed): job.made_from for job in made.jobs}


def remade(one: Plan, other: Plan) -> set[str]:
    before, after = hashes(one), hashes(other)
    assert set(before) == set(after) and len(set(before.values())) == len(before)
    return {name for name, seed in before if before[name, seed] != after[name, seed]}


def test_only_what_is_made_from_a_change_is_made_again(loras):
    first = planned(loras=loras)
    every = {job.name for job in first.jobs}
    edited = {job.name for job in first.jobs if job.source}
    assert remade(first, planned(loras=loras)) == set()
    assert remade(first, planned(changed(glasses={"nodes": {"SEGA Concept": "a hat"}}), loras=loras)) == {"glasses"}
    assert remade(first, planned(changed(glasses={"title": "Other"}), loras=loras)) == set()
    assert remade(first, planned(changed(smile={"picture": "a photo of a man"}), loras=loras)) == {"smile"}
    assert remade(first, planned(changed(red_coat={"mask": (0, 0.5, 1, 1)}), loras=loras)) == {"red_coat"}
    assert remade(first, planned(changed(balloon={"strokes": []}), loras=loras)) == {"balloon"}
    assert remade(first, planned(WISHES.model_copy(update={"negative": "dark"}), loras=loras)) == edited
    assert remade(first, planned(checkpoint=owned(sha256="bb"), loras=loras)) == every
    assert remade(first, planned(loras=loras, size=512)) == every
    assert remade(first, planned(loras=loras, steps=8)) == every
    devtools.gallery.plan._hash.cache_clear()  # as a new process has it
    (loras / "age.pt").write_bytes(b"another")
    assert remade(first, planned(loras=loras)) == {"four_sliders", "slider_sweep"}


def test_a_family_can_have_steps_and_guidance_of_its_own():
    inputs = [
        {"steps": 25, "cfg": 5.0}, {"steps": 25, "cfg": 1.0, "denoise": 0.8},
        {"steps": 25, "start_at_step": 5, "cfg": 3.0}, {"steps": 25, "start_at_step": 13}, {"cfg": 5.0},
        {"steps": 25, "start_at_step": ["2", 4]},
    ]  # fmt: skip
    prompt = {str(i): {"inputs": values} for i, values in enumerate(inputs, 1)}
    suited(prompt, Family(size=512))
    assert inputs[2] == {"steps": 25, "start_at_step": 5, "cfg": 3.0}
    suited(prompt, Family(size=512, cfg=2, steps=8))
    assert [values.get("cfg") for values in inputs] == [2, 1, 2, None, 2, None]
    assert [values.get("steps") for values in inputs] == [8, 8, 8, 8, None, 8]
    # As many steps as DDIM Invert keeps: floor(8 * 0.8) = 6, floor(8 * 0.48) = 3.
    assert [values["start_at_step"] for values in inputs[2:4]] == [2, 5]
    assert inputs[5]["start_at_step"] == ["2", 4]


def test_a_familys_size_is_its_own_or_the_given():
    def size(family, given=None):
        return chosen_family(WISHES, owned(family), given, PROMPTS).size

    assert [size(name) for name in ("SD15", "SD20", "SD20 v-prediction", "SDXL", "SDXL v-prediction", "Flux")] == [
        512, 512, 768, 1024, 1024, 1024,
    ]  # fmt: skip
    assert chosen_family(WISHES, owned("Flux"), 512, PROMPTS) == Family(size=512, cfg=1)
    assert size("Unheard", 512) == 512
    with pytest.raises(GalleryError, match=r"(?s)mine.safetensors for Unheard, whose size .* --size"):
        size("Unheard")
    for wrong in (500, 0):
        with pytest.raises(GalleryError, match=f"--size is {wrong}; it must be a multiple of 64, 128 or more"):
            size("SDXL", wrong)


def written(**content) -> str:
    """The file with other content."""
    return yaml.safe_dump({**WISHES.model_dump(mode="json"), **content})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scenes: [", "while parsing"),
        ("- 1", "valid dictionary"),
        (written(seed=[1]), "seed: Extra inputs"),
        (written(seeds=["x"]), "seeds.0: Input should be a valid integer"),
        (written(scenes={"a": {"title": "A"}}), "scenes.a.workflow: Field required"),
        (written(families={"SDXL": {"size": 200}}), "families.SDXL.size: Input should be a multiple of 64"),
        (written(families={"SDXL": {"size": 64}}), "families.SDXL.size: Input should be greater"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_its_place(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(GalleryError, match=r"mine\.yaml") as refused:
        read(tmp_path / "mine.yaml")
    assert message in str(refused.value)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(GalleryError, match="cannot be read"):
        read(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        ({"workflow": "sega_five"}, "scene glasses: workflow is 'sega_five'; it must be one of sega_one_concept, "),
        ({"nodes": {"Positive": "a"}}, "scene glasses: its workflow has no node 'Positive'; it has .*Positive prompt"),
        ({"nodes": {"SEGA Concept": {"scal": 3}}}, "node 'SEGA Concept' has no value 'scal'; it has text, direction"),
        ({"nodes": {"SEGA Concept": {"clip": 3}}}, "has no value 'clip'"),  # linked
        ({"picture": "a dog"}, "scene glasses: its workflow loads no picture"),
        (
            {"workflow": "diffedit_replace", "nodes": {}},
            "scene glasses: its workflow edits a picture: say in `picture`",
        ),
    ],
)
def test_a_scene_that_does_not_fit_its_workflow_is_refused(scene, message):
    with pytest.raises(GalleryError, match=message):
        planned(changed(glasses=scene))


def test_masks_and_strokes_are_painted_at_any_size():
    scene = Scene(
        title="A", workflow="b", mask=(0, 0.5, 1, 1),
        strokes=[{"colour": "#ff0000", "width": 0.25, "points": [[0.5, 0.25]]}],  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    for side in (64, 128):
        picture = Image.new("RGB", (side, side), (0, 0, 255))
        painted = np.asarray(scene.painted(picture))
        assert picture.getcolors() == [(side * side, (0, 0, 255))]  # the original stays
        assert (painted[: side // 2, :, 3] == 255).all() and (painted[side // 2 :, :, 3] == 0).all()
        red = (painted[..., :3] == (255, 0, 0)).all(-1)
        assert red.mean() == pytest.approx(np.pi / 4 / 16, rel=0.2)  # a disc of a quarter of the width
        assert red[side // 4, side // 2] and not red[side // 4, side // 4]


def gallery(out: Path, checkpoint: Checkpoint | None = None) -> Gallery:
    made = Gallery(out, checkpoint or owned(), 1024, WISHES)
    made.take_up()
    return made


SHEET = Image.new("RGB", (8, 8), "red")


def entry(job, **more) -> dict:
    return {
        "scene": job.name, "seed": job.seed, "texts": texts(job.prompt), "edits": [], "seconds": 1.0,
        "file": f"strips/{job.name}_{job.seed}.webp", "made_from": job.made_from, **more,
    }  # fmt: skip


def test_finished_strips_are_kept_and_only_the_missing_ones_are_made(tmp_path):
    jobs = planned()
    first = gallery(tmp_path)
    assert first.missing(jobs) == jobs.jobs
    for job in jobs.jobs[:3]:
        first.add(job, SHEET, entry(job))
    second = gallery(tmp_path)
    assert second.missing(jobs) == jobs.jobs[3:]
    (tmp_path / "strips" / f"{jobs.jobs[1].name}_1.webp").unlink()
    assert gallery(tmp_path).missing(jobs) == [jobs.jobs[1], *jobs.jobs[3:]]
    other = planned(changed(glasses={"nodes": {"SEGA Concept": "a hat"}}))
    assert gallery(tmp_path).missing(other)[0].name == "glasses"


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    gallery(tmp_path).write()
    before = (tmp_path / "report.json").read_bytes()
    with pytest.raises(GalleryError, match=r"another checkpoint, mine\.safetensors: choose another folder with --out"):
        gallery(tmp_path, owned(sha256="bb"))
    assert (tmp_path / "report.json").read_bytes() == before
    for content in ("{", "[]", "{}"):
        (tmp_path / "report.json").write_text(content)
        with pytest.raises(GalleryError, match="is not a gallery's"):
            gallery(tmp_path)


def test_the_page_shows_all_strips_in_the_files_order_and_what_is_missing(tmp_path):
    jobs = planned(changed(glasses={"nodes": {"SEGA Concept": "<b> & co"}}))
    made = gallery(tmp_path)
    made.missing(jobs)
    made.failed["smile, seed 1"] = "out of <memory>"
    for job in (jobs.jobs[1], jobs.jobs[0]):
        made.add(job, SHEET, entry(job, edits=["+ <b> & co (5)"]))
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'src="(.+?)"', text) == ["strips/glasses_1.webp", "strips/autumn_1.webp"]
    assert all((tmp_path / name).exists() for name in re.findall(r'href="(.+?)"', text))
    assert "<b>" not in text and "+ &lt;b&gt; &amp; co (5)" in text
    assert "<li>one_slider: needs slider files" in text and "<li>smile, seed 1: out of &lt;memory&gt;</li>" in text
    assert text.count("<h2>") == 3
    assert page(json.loads((tmp_path / "report.json").read_text())) == text


def test_captions_say_what_was_asked_and_what_was_measured():
    made = {
        "seed": 3, "picture_of": "a bowl", "texts": {"Source prompt": "apples", "Target prompt": "pears"}, "edits": [],
        "seconds": 2.0, "mask_share": 0.25, "background_error": 0,
    }  # fmt: skip
    assert caption(made) == ["picture: a bowl", "source prompt: apples", "target prompt: pears", "seed 3"]
    assert measured(made) == "2.0 s, the mask is 25% of the picture, outside it every pixel is the same"
    assert measured({**made, "background_error": 9}).endswith("outside it up to 9 of 255 differ")
    plain = {"seed": 3, "texts": {"Positive prompt": "a dog"}, "edits": ["+ hat (5)"]}
    assert caption(plain) == ["prompt: a dog", "+ hat (5)   ·   seed 3"]


@pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="needs ComfyUI: run `python dev.py test`")
def test_a_wrong_path_is_said_before_anything_starts(tmp_path):
    command = [sys.executable, str(ROOT / "dev.py"), "gallery", "--checkpoint", "missing.safetensors"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"there is no file {tmp_path / 'missing.safetensors'}" in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())
