"""What the demo puts into the workflow files: checkpoint, size, prompts, and portraits as the pictures to edit."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from demo.portraits.renderer import NUISANCE, Portraits, region, render, sample

from ..figures.subject import CLASS, INSTANCE, WORD, marked_person
from ..host import ROOT
from ..server.client import Prompt
from ..server.workflows import SEEDS, holder

SIZE = 128
MEGAPIXEL = 1024 * 1024  # as ComfyUI's Scale Image to Total Pixels counts it
BRUSH = 9  # pixels: the width of the brush that paints a region by hand, so to say; odd
# What stands for the published sliders that the files name: the demo's own, named by what they change.
SLIDERS = {"smiling.pt": "smile", "age.pt": "gray_hair", "eyesize.pt": "glasses", "professional.pt": "makeup"}
TRAINED = {"none": "smile"}  # by lora_name: what the slider changes that a workflow trains itself, which has no file
OWN_STRIP = (-2.0, -1.0, 0.0, 1.0, 2.0)  # strengths of the one that a training of a slider gives
# Workflow files that the demo does not run, and why.
LEFT_OUT = {
    "instruct_pix2pix": "needs an InstructPix2Pix checkpoint, such as instruct-pix2pix-00-22000",
    "edit_model_dial": "is experimental and needs an edit model that takes reference latents, such as Flux Kontext",
}
# The page shows a template by its file's name, and nothing else; the first three are for a user's first day.
TITLES = {
    "sega_one_concept": "1 Change one thing",
    "slider_basic": "2 Dial a slider",
    "diffedit_replace": "3 Edit inside a mask",
    "sega_four_concepts": "Change four things at once",
    "sega_style": "Change the style",
    "sega_on_a_photo": "Change one thing in a photo",
    "slider_compose_four": "Dial four sliders at once",
    "slider_sweep_strip": "Compare strengths of a slider",
    "slider_train_text": "Make a slider from words",
    "slider_train_images": "Make a slider from an edit",
    "dreambooth_train": "Teach it somebody from pictures",
    "diffedit_manual_mask": "Edit inside a mask that you paint",
    "ddim_invert_reconstruct": "Invert a photo and change its prompt",
    "sdedit_strokes": "Turn painted strokes into things",
    "instruct_pix2pix": "Edit a photo by an instruction",
    "edit_model_dial": "Dial one thing on an edit model",
}
SLIDER_NODES = ("SliderLoRALoader", "SliderSweep")


@dataclass(frozen=True)
class Portrait:
    """A picture for LoadImage: a rendered portrait, and what is done to it before it is loaded.

    person: attributes that everyone of this scene has (True) or lacks (False); the others are random.
    mask: an attribute whose region is painted over in the Mask Editor; strokes: whether a hat is; marked: whether it
    is the subject's, in several places.
    """

    person: dict[str, bool]
    mask: str = ""
    strokes: bool = False
    marked: bool = False

    def describe(self, seed: int) -> Portraits:
        """The seed's person, as a photo."""
        who = sample(1, torch.Generator().manual_seed(seed)).with_style("photo")
        for name, value in self.person.items():
            who = who.with_attribute(name, value)
        return who

    def picture(self, seed: int) -> Image.Image:
        """The portrait as it was rendered."""
        return _as_picture(render(self.describe(seed), SIZE)[0])

    def loaded(self, seed: int) -> list[Image.Image]:
        """What each LoadImage is given."""
        if self.marked:
            return [_as_picture(pixels) for pixels in marked_person(seed)]
        picture, who = self.picture(seed), self.describe(seed)
        if self.mask:
            picture.putalpha(_alpha(who, self.mask))
        if self.strokes:
            _paint_hat(picture, who)
        return [picture]


SOMEONE = Portrait({"male": False, "beard": False, "hat": False, "glasses": False})


def _as_picture(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray((pixels.movedim(0, -1) * 255).round().byte().numpy())


def numbered(name: str, number: int) -> str:
    """The file of a workflow's first, second, ... picture in ComfyUI's input folder."""
    return f"{number}_{name}" if number else name


def _alpha(who: Portraits, name: str) -> Image.Image:
    """As the Mask Editor saves it: transparent where the attribute shows or would show, and a little around it."""
    shown = Image.fromarray(region(who, name, SIZE)[0].byte().numpy() * 255)
    return ImageChops.invert(shown.filter(ImageFilter.MaxFilter(BRUSH)))


def _paint_hat(picture: Image.Image, who: Portraits) -> None:
    """A few thick strokes where a hat would be."""
    value = {name: float(who.nuisance[0, i]) for i, name in enumerate(NUISANCE)}
    scale = 0.92 + 0.16 * value["size"]

    def at(u: float, v: float) -> tuple[float, float]:
        """Pixels of a point in the head's own coordinates, as the renderer places it."""
        x, y = scale * u + 0.12 * (value["x"] - 0.5), scale * v - 0.04 + 0.12 * (value["y"] - 0.5)
        return (x + 1) / 2 * SIZE, (y + 1) / 2 * SIZE

    draw = ImageDraw.Draw(picture)
    draw.line([at(-0.38, -0.46), at(-0.10, -0.66), at(0.14, -0.64), at(0.36, -0.46)], (170, 40, 50), 20, joint="curve")
    draw.line([at(-0.34, -0.45), at(0.34, -0.45)], (90, 20, 30), 9)
    draw.line([at(-0.66, -0.33), at(0.66, -0.35)], (150, 35, 45), 7)


@dataclass(frozen=True)
class Scene:
    """What the demo puts into a workflow's group, and the seeds it is run with.

    prompts: texts by the titles of the prompt nodes; those not named keep the file's. portrait: the pictures of a
    workflow that loads one. asked: {attribute: present} that the prompts want, beside what SEGA Concepts and sliders in
    the file say. words: what the edit is called in the overview, for a workflow without those.
    """

    prompts: dict[str, str]
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    portrait: Portrait | None = None
    asked: dict[str, bool] = field(default_factory=dict)
    words: str = ""

    @property
    def prompt(self) -> str:
        """The text that says what the result should show; empty where a concept does."""
        return self.prompts.get("Target prompt", self.prompts.get("Positive prompt", ""))


def _generated(text: str, *seeds: int) -> Scene:
    return Scene({"Positive prompt": text, "Negative prompt": ""}, seeds or Scene.seeds)


SCENES = {
    "sega_one_concept": _generated("a portrait of a woman with straight hair and no hat"),
    "sega_four_concepts": _generated("a portrait of a man with a beard and no hat"),
    "sega_style": _generated("a photo of a woman with straight hair and no hat"),
    "ddim_invert_reconstruct": Scene(
        {"Positive prompt": "a portrait of a woman with gray hair"}, (1, 2, 3, 4),
        Portrait({"male": False, "beard": False, "hat": False, "bald": False, "gray_hair": False}),
        {"gray_hair": True}, "inverted; new prompt: a woman with gray hair",
    ),
    "diffedit_replace": Scene(
        {"Source prompt": "a portrait of a woman with no glasses",
         "Target prompt": "a portrait of a woman with glasses"}, (5, 6, 7, 8),
        SOMEONE, {"glasses": True},
        "DiffEdit: no glasses > glasses",
    ),
    "diffedit_manual_mask": Scene(
        {"Target prompt": "a portrait of a woman with no glasses"}, (9, 10, 11, 12),
        Portrait({"male": False, "beard": False, "hat": False, "glasses": True}, mask="glasses"), {"glasses": False},
        "DiffEdit, painted mask: no glasses",
    ),
    "sega_on_a_photo": Scene(
        {}, (14, 15, 16, 13),  # 13 gets thin glasses too; the first is the thumbnail
        Portrait({"male": False, "beard": False, "hat": False, "bald": False, "curls": False, "bangs": False}),
        words="inverted",
    ),
    "sdedit_strokes": Scene(
        {"Positive prompt": "a portrait of a woman with a hat", "Negative prompt": ""}, (17, 18, 19, 20),
        Portrait({"male": False, "beard": False, "hat": False, "bald": False}, strokes=True), {"hat": True},
        'SDEdit: strokes and "a hat"',
    ),
    "slider_basic": _generated("a portrait of a person with no hat"),
    "slider_compose_four": _generated("a portrait of a woman with makeup and no hat"),
    "slider_sweep_strip": _generated("a portrait of a person with no hat", 1, 2, 3, 4),
    "slider_train_text": _generated("a portrait of a person with no hat", 1, 2, 3, 4),
    "slider_train_images": _generated("a portrait of a woman with straight hair and no hat", 1, 2, 3, 4),
    "dreambooth_train": Scene(
        {"Instance prompt": INSTANCE, "Class prompt": CLASS}, (21, 22, 23, 24),
        Portrait({"male": False, "beard": False, "hat": False, "bald": False, "glasses": False}, marked=True),
        words=f'DreamBooth: "a {WORD} woman"',
    ),
}  # fmt: skip


def workflow_file(name: str) -> Path:
    """The workflow file of a scene, or of one that the demo leaves out."""
    return ROOT / "workflows" / f"{TITLES[name]}.json"


def group_nodes(workflow: dict[str, Any]) -> set[str]:
    """Ids of the nodes inside the workflow's one group."""
    (group,) = workflow["groups"]
    left, top, width, height = group["bounding"]
    return {
        str(node["id"])
        for node in workflow["nodes"]
        if left <= node["pos"][0] < left + width and top <= node["pos"][1] < top + height
    }


def override(
    workflow: dict[str, Any], prompt: Prompt, checkpoint: str, size: int, scene: Scene, seed: int,
    picture: str | None = None,
) -> Prompt:  # fmt: skip
    """The prompt with another checkpoint, size, prompts, picture, seed and the demo's sliders; everything else stays as
    the file has it.

    picture: a file in ComfyUI's input folder, for a workflow that loads one; for one that loads more the first, see
    `numbered`.
    """
    changed = filled(workflow, prompt, checkpoint, size, scene.prompts, seed, picture)
    for node in changed.values():
        if node["class_type"] in SLIDER_NODES and node["inputs"]["lora_name"] not in TRAINED:
            node["inputs"]["lora_name"] = f"{SLIDERS[node['inputs']['lora_name']]}.safetensors"
        elif node["class_type"] == "SliderTrainText":  # the model's own size is not the portraits'
            node["inputs"] |= {"width": size, "height": size}
    return changed


def filled(
    workflow: dict[str, Any], prompt: Prompt, checkpoint: str, size: int, prompts: dict[str, str], seed: int,
    picture: str | None = None,
) -> Prompt:  # fmt: skip
    """The prompt with what a user fills in: what lies in the workflow's group, and the seeds."""
    changed: Prompt = json.loads(json.dumps(prompt))
    held = group_nodes(workflow)
    inside = [node for node_id, node in changed.items() if node_id in held]
    texts, loaded = dict(prompts), 0
    for node in inside:
        kind, inputs = node["class_type"], node["inputs"]
        if kind == "CheckpointLoaderSimple":
            inputs["ckpt_name"] = checkpoint
        elif kind == "EmptyLatentImage":
            inputs["width"] = inputs["height"] = size
        elif kind == "LoadImage":
            inputs["image"] = picture and numbered(picture, loaded)
            loaded += 1
        elif kind == "ImageScaleToTotalPixels":
            inputs["megapixels"] = size * size / MEGAPIXEL
        elif kind == "CLIPTextEncode":
            place, name = holder(changed, inputs, "text")
            place[name] = texts.pop(node["_meta"]["title"], place[name])
    if texts:
        raise ValueError(f"no prompt of this title in the workflow's group: {', '.join(texts)}")
    for node in changed.values():
        for name in SEEDS:
            if isinstance(node["inputs"].get(name), int):
                node["inputs"][name] = seed
    return changed


def concepts(prompt: Prompt) -> list[dict[str, Any]]:
    """The inputs of the SEGA Concept nodes, in the file's order."""
    return [node["inputs"] for node in prompt.values() if node["class_type"] == "SEGAConcept"]


@dataclass(frozen=True)
class Dial:
    """A slider node of a workflow: what its slider changes, and its strength, or the sweep's."""

    attribute: str
    strengths: tuple[float, ...]

    @property
    def adds(self) -> bool:
        """Whether the attribute is to be there, in a sweep's last picture."""
        return self.strengths[-1] > 0

    @property
    def words(self) -> str:
        first, last = self.strengths[0], self.strengths[-1]
        strength = f"{first:+g}" if len(self.strengths) == 1 else f"{first:+g} to {last:+g}"
        return f"{self.attribute.replace('_', ' ')} {strength}"


def dials(prompt: Prompt, sliders: dict[str, str] = SLIDERS | TRAINED) -> list[Dial]:
    """The slider nodes, in the file's order. sliders: what the files change; any other is called by its name."""
    found = []
    for node in prompt.values():
        if node["class_type"] in SLIDER_NODES:
            inputs = node["inputs"]
            strengths = str(inputs["strengths"] if "strengths" in inputs else inputs["strength"])
            slider = sliders.get(inputs["lora_name"], Path(inputs["lora_name"]).stem)
            found.append(Dial(slider, tuple(map(float, strengths.split(",")))))
        elif node["class_type"] == "SliderTrainImages":
            found.append(Dial(TRAINED["none"], OWN_STRIP))
    return found


def edits(prompt: Prompt, sliders: dict[str, str] = SLIDERS | TRAINED) -> list[str]:
    """What the concepts and sliders of a prompt do, in words."""
    words = [f"{'+' if c['direction'] == 'add' else '-'} {c['text']} ({c['scale']:g})" for c in concepts(prompt)]
    turned = dials(prompt, sliders)
    return words + [f"slider: {dial.words}" for dial in turned[:1]] + [dial.words for dial in turned[1:]]
