"""The workflow files obey the rules for what users open from the page's templates."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest
from PIL import Image

from devtools.demo.report import meaning
from devtools.demo.scenes import (
    LEFT_OUT,
    SCENES,
    SLIDER_NODES,
    SLIDERS,
    TITLES,
    TRAINED,
    concepts,
    dials,
    group_nodes,
    override,
    workflow_file,
)  # fmt: skip
from devtools.demo.serve import EXAMPLE
from devtools.server.results import with_previews
from devtools.server.workflows import holder, load, to_prompt

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted({*SCENES, *LEFT_OUT})
INFO = json.loads((Path(__file__).parent / "object_info.json").read_text(encoding="utf-8"))
RED = "#322"
SEGA = {"sega_one_concept", "sega_four_concepts", "sega_style"}
PICTURE = {
    "ddim_invert_reconstruct", "diffedit_replace", "diffedit_manual_mask", "sega_on_a_photo", "sdedit_strokes",
}  # fmt: skip
SLIDER = {"slider_basic", "slider_compose_four"}
SUBJECT = {"dreambooth_train"}
OWN_STRIP = {"slider_train_images"} | SUBJECT  # ends in the one that its training gives
TRAIN = {"slider_train_text", "slider_train_images"}
SWEEP = {"slider_sweep_strip"} | TRAIN
FIRST = {"sega_one_concept", "slider_basic", "diffedit_replace"}
EDIT_MODEL = {"instruct_pix2pix", "edit_model_dial"}
TO_CHANGE = {
    "SEGAConcept", "SliderLoRALoader", "SliderSweep", "DDIMInvert", "DiffEditMask", "DiffEditSampler",
    "InstructPix2PixGuider", "SliderTrainText", "SliderTrainImages",
    "DreamBoothTrain",
}  # fmt: skip
# The folder of what a loader loads. A model that comes in three files has three loaders.
LOADERS = {
    "CheckpointLoaderSimple": "checkpoints", "UNETLoader": "diffusion_models", "DualCLIPLoader": "text_encoders",
    "VAELoader": "vae",
}  # fmt: skip
BATCH = {"BatchImagesNode", "VAEEncode"}  # of several pictures that are loaded
THREE_FILES = {"UNETLoader", "DualCLIPLoader", "VAELoader"}
PROMPT = "PrimitiveStringMultiline"  # one text for the positive and the concepts
SCALES = {"ImageScaleToTotalPixels", "FluxKontextImageScale"}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def workflow(name):
    return load(workflow_file(name))


@pytest.fixture(params=sorted(SCENES))
def scene_name(request):
    """A workflow that the demo runs."""
    return request.param


@pytest.fixture(params=sorted(SEGA | SLIDER | {"edit_model_dial", "slider_train_images"}))
def twice_sampled(request):
    """A workflow that samples without and with the edit."""
    return load(workflow_file(request.param))


@pytest.fixture(params=sorted((SLIDER | SWEEP) - TRAIN))
def slider_workflow(request):
    return load(workflow_file(request.param))


@pytest.fixture(params=sorted(PICTURE))
def picture_workflow(request):
    """A workflow that inverts a picture of the user's."""
    return load(workflow_file(request.param))


def of_type(workflow, kind):
    return [node for node in workflow["nodes"] if node["type"] == kind]


def test_the_files_are_there():
    assert set(SCENES) == SEGA | PICTURE | SLIDER | SWEEP | SUBJECT
    assert set(LEFT_OUT) == EDIT_MODEL
    assert {*(ROOT / "workflows").iterdir()} == {
        workflow_file(name).with_suffix(suffix) for name in NAMES for suffix in (".json", ".jpg")
    }
    assert set(TITLES) == set(NAMES)


def test_names_say_the_job_and_suit_the_templates_page(name):
    """The page shows the file's name as title and description; the three for a first day are numbered."""
    title = workflow_file(name).stem
    assert title.replace(" ", "").isalnum()
    words = title.lstrip("123 ").split(" ")
    assert len(words) >= 3 and words[0].istitle() and " ".join(words[1:]).islower()
    assert title[0].isdigit() == (name in FIRST)


def test_its_id_is_an_uuid_of_its_own(workflow):
    """The page gives a file with any other id a new one, and newer pages then show no error of its runs."""
    assert str(UUID(workflow["id"])) == workflow["id"]
    assert sum(load(workflow_file(other))["id"] == workflow["id"] for other in NAMES) == 1


def test_it_has_a_thumbnail(name):
    thumbnail = workflow_file(name).with_suffix(".jpg")
    with Image.open(thumbnail) as picture:
        assert picture.size == (512, 256)
    assert thumbnail.stat().st_size <= 60 * 1024


def test_it_is_small(name, workflow):
    """8 to 12 nodes, 14 with a picture to load. Not counted are further links of a chain, further loaders of one model,
    an edit model's second sampler with its decoder, a prompt's text, a second strip, and the picture that is saved."""
    kinds = ("SEGAConcept", "SliderLoRALoader", *(["KSampler", "VAEDecode"] if name in EDIT_MODEL else []))
    repeated = sum(max(0, len(of_type(workflow, kind)) - 1) for kind in kinds)
    repeated += max(0, sum(node["type"] in THREE_FILES for node in workflow["nodes"]) - 1)
    again = len(of_type(workflow, "SaveImage")) + len(of_type(workflow, "LabelledStrip")) - 1
    repeated += len(of_type(workflow, PROMPT)) + (0 if name in SWEEP else again)
    assert 8 <= len(workflow["nodes"]) - repeated <= (14 if name in PICTURE | EDIT_MODEL | SUBJECT else 12)


def test_it_names_public_files_of_its_model(name, workflow):
    loaders = [node for node in workflow["nodes"] if node["type"] in LOADERS]
    three = name == "edit_model_dial"
    assert {node["type"] for node in loaders} == (THREE_FILES if three else {"CheckpointLoaderSimple"})
    for loader in loaders:
        models, values = loader["properties"]["models"], loader["widgets_values"]
        assert [model["name"] for model in models] == [v for v in values if v.endswith(".safetensors")]
        for model in models:
            assert model["url"].startswith("https://")
            assert model["url"].endswith(model["name"])
            assert model["directory"] == LOADERS[loader["type"]]


def test_sliders_name_the_authors_files(slider_workflow):
    """The page says what is missing and where it is; the note says it too."""
    (note,) = of_type(slider_workflow, "Note")
    for node in slider_workflow["nodes"]:
        if node["type"] in SLIDER_NODES:
            (model,) = node["properties"]["models"]
            assert model["name"] == node["widgets_values"][0]
            assert model["name"] in note["widgets_values"][0]
            assert model["url"] == f"https://sliders.baulab.info/weights/xl_sliders/{model['name']}"
            assert model["directory"] == "loras"


def test_its_size_is_the_checkpoints(name, workflow):
    if name in PICTURE | EDIT_MODEL | SUBJECT:
        (scale,) = (node for node in workflow["nodes"] if node["type"] in SCALES)
        megapixels = 0.25 if name == "instruct_pix2pix" else 1.0  # 512² for a checkpoint on SD 1.5
        kontext = scale["type"] == "FluxKontextImageScale"  # knows that family's sizes by itself
        assert scale.get("widgets_values") == (None if kontext else ["lanczos", megapixels, 8])
    else:
        (latent,) = of_type(workflow, "EmptyLatentImage")
        assert latent["widgets_values"] == [1024, 1024, 8 if name == "slider_train_images" else 1]


def test_seeds_are_fixed(workflow):
    for node in workflow["nodes"]:
        for control in {"randomize", "increment", "decrement"}:
            assert control not in (node.get("widgets_values") or []), node["type"]


def test_the_same_sampler_runs_twice_from_one_fixed_seed(twice_sampled):
    workflow = twice_sampled
    before, after = of_type(workflow, "KSampler")
    assert before["widgets_values"] == after["widgets_values"]
    assert before["widgets_values"][1] == "fixed"
    prompt = to_prompt(workflow, INFO)
    first, second = (prompt[str(node["id"])]["inputs"] for node in (before, after))
    assert {name for name in first if first[name] != second[name]} == {"model"}
    assert prompt[first["model"][0]]["class_type"] in {"CheckpointLoaderSimple", "UNETLoader"}
    assert prompt[second["model"][0]]["class_type"] in {"SEGAGuidance", "SliderLoRALoader"}


def test_sliders_are_chained():
    prompt = to_prompt(load(workflow_file("slider_compose_four")), INFO)
    model = next(node["inputs"]["model"] for node in prompt.values() if node["_meta"]["title"] == "KSampler: after")
    chain = []
    while prompt[model[0]]["class_type"] == "SliderLoRALoader":
        chain.append(prompt[model[0]]["inputs"])
        model = chain[-1]["model"]
    assert prompt[model[0]]["class_type"] == "CheckpointLoaderSimple"
    assert len({inputs["lora_name"] for inputs in chain}) == 4
    assert any(inputs["strength"] < 0 for inputs in chain)
    assert {(inputs["start_percent"], inputs["end_percent"], inputs["apply_to"]) for inputs in chain} == {
        (0.2, 1.0, "both")
    }


def test_the_inversion_and_its_decode_belong_together(picture_workflow):
    """The same unsteered model, the same schedule, and a start where the inversion ended."""
    prompt = to_prompt(picture_workflow, INFO)
    (inverted,) = [node for node in prompt.values() if node["class_type"] == "DDIMInvert"]
    settings = inverted["inputs"]
    assert prompt[settings["model"][0]]["class_type"] == "CheckpointLoaderSimple"
    assert (settings["cfg"], settings["seed"]) == (1.0, 0)
    for node in prompt.values():
        if node["class_type"] != "KSamplerAdvanced":
            continue
        inputs = node["inputs"]
        assert (inputs["add_noise"], inputs["return_with_leftover_noise"]) == ("disable", "disable")
        assert (inputs["steps"], inputs["scheduler"], inputs["sampler_name"]) == (
            settings["steps"], settings["scheduler"], "euler",
        )  # fmt: skip
        assert prompt[inputs["start_at_step"][0]] == inverted
        assert inputs["start_at_step"][1] == 4
        assert inputs["end_at_step"] >= settings["steps"]
        assert prompt[inputs["latent_image"][0]] == inverted


@pytest.mark.parametrize("name", ["diffedit_replace", "diffedit_manual_mask"])
def test_diffedit_pastes_over_the_picture_with_the_samplers_mask(name):
    prompt = to_prompt(load(workflow_file(name)), INFO)
    by_kind = {node["class_type"]: (node_id, node["inputs"]) for node_id, node in prompt.items()}
    paste, sampler = by_kind["ImageCompositeMasked"][1], by_kind["DiffEditSampler"][1]
    assert paste["mask"] == sampler["mask"]
    assert prompt[sampler["mask"][0]]["class_type"] == ("DiffEditMask" if "replace" in name else "LoadImage")
    assert paste["destination"] == [by_kind["ImageScaleToTotalPixels"][0], 0]
    assert by_kind["LabelledStrip"][1]["images"] == [by_kind["ImageCompositeMasked"][0], 0]
    texts = {key: prompt[sampler[key][0]]["_meta"]["title"] for key in ("positive", "negative")}
    assert texts == {"positive": "Target prompt", "negative": "Empty prompt"}


def test_sega_steers_only_the_decode():
    prompt = to_prompt(load(workflow_file("sega_on_a_photo")), INFO)
    by_kind = {node["class_type"]: node["inputs"] for node in prompt.values()}
    assert prompt[by_kind["CFGGuider"]["model"][0]]["class_type"] == "SEGAGuidance"
    assert by_kind["CFGGuider"]["cfg"] == 1.0  # as the inversion, so that the picture comes back without the concept
    assert by_kind["CFGGuider"]["positive"] == by_kind["DDIMInvert"]["positive"]
    assert by_kind["SamplerCustomAdvanced"]["latent_image"] == by_kind["DDIMInvert"]["latent_image"]


def test_strokes_are_not_inverted():
    (node,) = of_type(load(workflow_file("sdedit_strokes")), "DDIMInvert")
    assert node["widgets_values"][4] == "random"
    assert 0.3 <= node["widgets_values"][2] <= 0.6


def test_it_ends_in_strips_that_both_renderers_show(name, workflow):
    """The host's comparison is empty in the classic renderer, a new user's."""
    strips = of_type(workflow, "LabelledStrip")
    if name in OWN_STRIP:
        (save,) = (node for node in to_prompt(workflow, INFO).values() if node["class_type"] == "SaveImage")
        trainer, slot = save["inputs"]["images"]
        assert not strips
        kind = next(node["type"] for node in workflow["nodes"] if str(node["id"]) == trainer)
        assert (kind, slot) == ("DreamBoothTrain" if name in SUBJECT else "SliderTrainImages", 2)
        return
    assert len(strips) == (2 if name == "ddim_invert_reconstruct" else 1)
    assert not of_type(workflow, "ImageCompare")
    (scale,) = [node for node in workflow["nodes"] if node["type"] in SCALES] or [None]
    prompt = to_prompt(workflow, INFO)
    for strip in strips:
        assert strip["pos"][0] >= max(node["pos"][0] for node in of_type(workflow, "SaveImage"))
        inputs = prompt[str(strip["id"])]["inputs"]
        assert ("before" in inputs) == (name not in SWEEP)
        if name not in SWEEP:
            assert len(prompt[inputs["labels"][0]]["inputs"]["value"].splitlines()) == 2  # no box beside the picture
            # The left picture is the loaded one, as it was scaled, or what the first sampler made.
            if scale is not None and name != "edit_model_dial":
                assert inputs["before"] == [str(scale["id"]), 0]
            else:
                assert prompt[inputs["before"][0]]["_meta"]["title"] == "VAE Decode: before"


def test_what_it_makes_is_saved_under_its_own_name(name, workflow):
    (save,) = of_type(workflow, "SaveImage")
    assert save["widgets_values"] == [workflow_file(name).stem.lstrip("123 ").lower().replace(" ", "_")]
    origins = {link[0]: tuple(link[1:3]) for link in workflow["links"]}
    made = origins[save["inputs"][0]["link"]]
    ends = [origins[node["inputs"][0]["link"]] for node in of_type(workflow, "LabelledStrip")]
    assert name in SWEEP | OWN_STRIP or made == ends[-1]  # the picture after the edit


def test_one_note_and_only_what_to_change_is_red(workflow):
    (note,) = of_type(workflow, "Note")
    assert note["widgets_values"][0].startswith("Pick your checkpoint; ")
    assert "the red node" in note["widgets_values"][0]
    present = {node["type"] for node in workflow["nodes"]} & TO_CHANGE
    assert {node["type"] for node in workflow["nodes"] if node.get("color") == RED} == present
    assert all(node["color"] == RED for node in workflow["nodes"] if node["type"] in TO_CHANGE)


def test_one_group_holds_checkpoint_size_or_picture_and_prompts(name, workflow):
    inside = group_nodes(workflow)
    nodes = [node for node in workflow["nodes"] if node.get("title") != "Captions"]
    kinds = {node["type"] for node in nodes if str(node["id"]) in inside}
    size = {"LoadImage", *SCALES} if name in PICTURE | EDIT_MODEL | SUBJECT else {"EmptyLatentImage"}
    if name in SUBJECT:
        size |= BATCH
    assert kinds == {node["type"] for node in nodes} & {*LOADERS, "CLIPTextEncode", PROMPT, *size}
    assert kinds >= {"CLIPTextEncode"} | (size - SCALES)
    assert not kinds & {node["type"] for node in nodes if str(node["id"]) not in inside}


def test_the_demo_replaces_only_the_group_the_seed_and_the_slider_files(scene_name):
    workflow, scene = load(workflow_file(scene_name)), SCENES[scene_name]
    prompt = to_prompt(workflow, INFO)
    changed = override(workflow, prompt, "portraits.safetensors", 128, scene, 99, "someone.png")
    inside = group_nodes(workflow)
    assert prompt == to_prompt(workflow, INFO)  # it is a copy that was changed
    for node_id, node in prompt.items():
        now = changed[node_id]["inputs"]
        differing = {name for name, value in node["inputs"].items() if now[name] != value}
        if node_id not in inside:
            trained = node["inputs"].get("lora_name") in TRAINED
            others = {"seed", "noise_seed"} | (set() if trained else {"lora_name"})
            others |= {"width", "height"} if node["class_type"] == "SliderTrainText" else set()
            assert differing == others & set(node["inputs"])
            if node["class_type"] in SLIDER_NODES and not trained:
                assert now["lora_name"] == f"{SLIDERS[node['inputs']['lora_name']]}.safetensors"
        elif node["class_type"] == "CLIPTextEncode":
            title = node["_meta"]["title"]
            place, key = holder(changed, now, "text")
            assert place[key] == scene.prompts.get(title, node["inputs"]["text"])
            assert title in scene.prompts or not place[key]  # only an empty prompt stays as the file has it
        elif node["class_type"] == "ImageScaleToTotalPixels":
            assert differing == {"megapixels"}
            assert now["megapixels"] * 1024 * 1024 == 128 * 128
        else:
            assert bool(differing) != (node["class_type"] in BATCH)
    if scene.portrait is not None:
        images = [node["inputs"]["image"] for node in changed.values() if node["class_type"] == "LoadImage"]
        assert images == ["someone.png", *(f"{i}_someone.png" for i in range(1, len(images)))]
        assert len(images) == len(scene.portrait.loaded(1))


def test_a_prompt_outside_the_group_is_not_replaced(scene_name):
    workflow, scene = load(workflow_file(scene_name)), SCENES[scene_name]
    prompt = to_prompt(workflow, INFO)
    for node in of_type(workflow, "CLIPTextEncode"):
        node["pos"][0] += 10_000
    if scene.prompts:
        with pytest.raises(ValueError, match="no prompt of this title in the workflow's group: "):
            override(workflow, prompt, "portraits.safetensors", 128, scene, 99, "someone.png")


@pytest.mark.parametrize("name", sorted(PICTURE | EDIT_MODEL | SUBJECT))
def test_the_pictures_are_one_that_the_page_has(name):
    nodes = of_type(load(workflow_file(name)), "LoadImage")
    assert [node["widgets_values"] for node in nodes] == [[EXAMPLE, "image"]] * (4 if name in SUBJECT else 1)


def test_the_demo_has_seeds_and_words_for_it(scene_name):
    workflow, scene = load(workflow_file(scene_name)), SCENES[scene_name]
    assert len(set(scene.seeds)) >= (6 if scene_name in SEGA else 3 if scene_name in PICTURE else 4)
    assert (scene.portrait is not None) == (scene_name in PICTURE | SUBJECT)
    assert bool(dials(to_prompt(workflow, INFO))) == (scene_name in SLIDER | SWEEP)
    kinds = {meaning(concept["text"])[0] for concept in concepts(to_prompt(workflow, INFO))}
    by_concepts = scene_name not in (SLIDER | SWEEP | SUBJECT) - {"slider_train_images"} and not scene.asked
    assert kinds == (set() if not by_concepts else {"style"} if "style" in scene_name else {"attribute"})
    assert bool(scene.words) == (scene_name in PICTURE | SUBJECT)


def test_the_demo_adds_only_previews(workflow):
    prompt = to_prompt(workflow, INFO)
    with_them = with_previews(prompt)
    assert {name: with_them[name] for name in prompt} == prompt
    added = [node for name, node in with_them.items() if name not in prompt]
    assert {node["class_type"] for node in added} <= {"ThresholdMask", "MaskToImage", "VAEDecode", "PreviewImage"}
