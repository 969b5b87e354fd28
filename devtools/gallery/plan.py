"""What a gallery is made of: the file with its prompts, and the prompts that follow from it for one checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from PIL import Image, ImageColor, ImageDraw
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ..demo.scenes import SLIDER_NODES, TITLES, TRAINED, filled, workflow_file
from ..paths import reason
from ..server.client import Prompt
from ..server.results import with_previews
from ..server.workflows import holder, load, to_prompt
from .checkpoints import Checkpoint, sha256

GRID, SMALLEST = 64, 128  # pixels: what every family can halve often enough, and the host's node can scale to
SAMPLING = {"steps": 25, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}  # as in workflows/


class GalleryError(Exception):
    """The file with the prompts holds something that cannot be done; the message says where and what."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Share = Annotated[float, Field(ge=0, le=1)]


def _colour(name: str) -> str:
    ImageColor.getrgb(name)
    return name


class Stroke(Strict):
    colour: Annotated[str, AfterValidator(_colour)]
    width: Annotated[float, Field(gt=0, le=1)]
    points: Annotated[list[tuple[Share, Share]], Field(min_length=1)]


class Family(Strict):
    """How a family of models is used; what is not given stays as the workflow files have it."""

    size: Annotated[int, Field(ge=SMALLEST, multiple_of=GRID)]
    cfg: float | None = None
    steps: Annotated[int, Field(ge=1)] | None = None


class Scene(Strict):
    title: str
    workflow: str
    seeds: list[int] | None = None
    nodes: dict[str, str | dict[str, Any]] = {}
    picture: str | None = None
    mask: tuple[Share, Share, Share, Share] | None = None
    strokes: list[Stroke] = []

    def painted(self, picture: Image.Image) -> Image.Image:
        """The picture as it is loaded: with the strokes, and transparent where the mask is, as the Mask Editor saves
        it."""
        width, height = picture.size
        painted, draw = picture.copy(), None
        for stroke in self.strokes:
            draw = draw or ImageDraw.Draw(painted)
            points = [(x * width, y * height) for x, y in stroke.points]
            radius = stroke.width * width / 2
            draw.line(points, stroke.colour, round(2 * radius))
            for x, y in points:
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), stroke.colour)
        if self.mask:
            left, top, right, bottom = self.mask
            alpha = Image.new("L", picture.size, 255)
            alpha.paste(0, (round(left * width), round(top * height), round(right * width), round(bottom * height)))
            painted.putalpha(alpha)
        return painted


class Wishes(Strict):
    """The file."""

    families: dict[str, Family]
    seeds: list[int]
    negative: str
    scenes: dict[Annotated[str, Field(pattern=r"^[\w-]+$")], Scene]

    def family(self, name: str) -> Family | None:
        """That of ComfyUI's name for a model; what predicts v may have one of its own."""
        return self.families.get(name) or self.families.get(name.removesuffix(" v-prediction"))


def read(file: Path) -> Wishes:
    """Raises GalleryError for what is not understood."""
    try:
        return Wishes.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except ValidationError as problem:
        found = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in problem.errors()]
        raise GalleryError("\n".join([f"{file}:", *found])) from None
    except yaml.YAMLError as problem:
        raise GalleryError(f"{file}: {problem}") from None
    except OSError as problem:
        raise GalleryError(f"--prompts cannot be read: {reason(problem)}") from None
    except UnicodeDecodeError as problem:
        raise GalleryError(f"{file} cannot be read: {problem}") from None


@dataclass(frozen=True)
class Source:
    """A picture to edit. made_from: a hash of all that it is made from; loaded: its name in ComfyUI's input folder once
    it is painted, another one for everything that changes it."""

    prompt: Prompt
    made_from: str
    loaded: str


@dataclass(frozen=True)
class Job:
    """A strip to be made. made_from: a hash of all that it is made from."""

    name: str
    scene: Scene
    seed: int
    prompt: Prompt
    made_from: str
    source: Source | None


@dataclass(frozen=True)
class Plan:
    """jobs: the first seed of every scene, then the second of each, so that a part of a gallery shows all of it.
    left_out: scenes, and why."""

    jobs: list[Job] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def plan(wishes: Wishes, checkpoint: Checkpoint, family: Family, loras: Path | None, info: dict[str, Any]) -> Plan:
    """The strips of a gallery. info: the server's `/object_info`."""
    made = Plan()
    seeded: dict[str, Iterator[Job]] = {}
    for name, scene in wishes.scenes.items():
        if scene.workflow not in TITLES:
            raise GalleryError(f"scene {name}: workflow is {scene.workflow!r}; it must be one of {', '.join(TITLES)}")
        workflow = load(workflow_file(scene.workflow))
        prompt = to_prompt(workflow, info)
        suited(prompt, family)
        put(name, scene, prompt)
        reason = unsuitable(prompt, checkpoint, loras)
        if reason:
            made.left_out[name] = reason
            continue
        loads = any(node["class_type"] == "LoadImage" for node in prompt.values())
        if loads != (scene.picture is not None):
            should = (
                "edits a picture: say in `picture` what is on it" if loads else "loads no picture: `picture` has no use"
            )
            raise GalleryError(f"scene {name}: its workflow {should}")
        made_with = _Maker(name, scene, workflow, with_previews(prompt), checkpoint, family, loras, wishes.negative)
        seeded[name] = map(made_with.job, scene.seeds or wishes.seeds)
    while seeded:
        for name in list(seeded):
            job = next(seeded[name], None)
            if job is None:
                del seeded[name]
            else:
                made.jobs.append(job)
    return made


@dataclass(frozen=True)
class _Maker:
    name: str
    scene: Scene
    workflow: dict[str, Any]
    prompt: Prompt
    checkpoint: Checkpoint
    family: Family
    loras: Path | None
    negative: str

    def job(self, seed: int) -> Job:
        checkpoint, size = self.checkpoint.file.name, self.family.size
        files = {checkpoint: self.checkpoint.sha256}
        files |= {name: _hash(self.loras / name) for name in sliders(self.prompt) if self.loras}
        source = None if self.scene.picture is None else self.source(self.scene.picture, seed)
        prompt = filled(self.workflow, self.prompt, checkpoint, size, {}, seed, source and source.loaded)
        return Job(self.name, self.scene, seed, prompt, _digest([prompt, files]), source)

    def source(self, text: str, seed: int) -> Source:
        prompt = generated(self.checkpoint.file.name, text, self.negative, self.family.size, seed)
        suited(prompt, self.family)
        made_from = _digest([prompt, self.checkpoint.sha256])
        paint = self.scene.model_dump(include={"mask", "strokes"})
        return Source(prompt, made_from, f"{_digest([made_from, paint])[:16]}.png")


def unsuitable(prompt: Prompt, checkpoint: Checkpoint, loras: Path | None) -> str | None:
    """Why a workflow cannot be run on a checkpoint; None if it can."""
    kinds = {node["class_type"] for node in prompt.values()}
    if "CheckpointLoaderSimple" not in kinds:
        return "loads its model from several files; a gallery is made of one checkpoint"
    instructed = "instructpix2pix" in checkpoint.family
    if "InstructPix2PixGuider" in kinds and not instructed:
        return "needs a checkpoint that follows instructions, such as instruct-pix2pix-00-22000"
    if "InstructPix2PixGuider" not in kinds and instructed:
        return "is made for checkpoints that draw from a description; this one follows instructions"
    missing = [name for name in sliders(prompt) if loras is None or not (loras / name).is_file()]
    if missing:
        where = "give their folder with --loras" if loras is None else "the folder of --loras does not hold them"
        return f"needs slider files ({', '.join(missing)}): {where}"
    return None


def sliders(prompt: Prompt) -> list[str]:
    """The slider files that a prompt names."""
    names = [node["inputs"]["lora_name"] for node in prompt.values() if node["class_type"] in SLIDER_NODES]
    return [name for name in names if name not in TRAINED]


def put(name: str, scene: Scene, prompt: Prompt) -> None:
    """Put a scene's texts and values into a workflow's nodes."""
    for title, given in scene.nodes.items():
        nodes = [node["inputs"] for node in prompt.values() if node["_meta"]["title"] == title]
        if not nodes:
            titles = ", ".join(sorted({node["_meta"]["title"] for node in prompt.values()}))
            raise GalleryError(f"scene {name}: its workflow has no node {title!r}; it has {titles}")
        for inputs in nodes:
            for key, value in (given if isinstance(given, dict) else {"text": given}).items():
                place, place_key = holder(prompt, inputs, key) if key == "text" in inputs else (inputs, key)
                widgets = [widget for widget, held in place.items() if not isinstance(held, list)]
                if place_key not in widgets:
                    raise GalleryError(
                        f"scene {name}: node {title!r} has no value {key!r}; it has {', '.join(widgets)}"
                    )
                place[place_key] = value


def suited(prompt: Prompt, family: Family) -> None:
    """Give the samplers a family's cfg and steps. What runs without guidance stays so; a run that begins later begins
    after the same share of the steps."""
    for node in prompt.values():
        inputs = node["inputs"]
        if family.cfg is not None and inputs.get("cfg", 1) != 1:
            inputs["cfg"] = float(family.cfg)
        if family.steps is not None and "steps" in inputs:
            before, inputs["steps"] = inputs["steps"], family.steps
            if isinstance(inputs.get("start_at_step"), int):  # else it is linked, and follows by itself
                kept = (before - inputs["start_at_step"]) / before
                inputs["start_at_step"] = family.steps - math.floor(family.steps * kept + 1e-6)


def generated(checkpoint: str, text: str, negative: str, size: int, seed: int) -> Prompt:
    """A picture of a text, as the workflow files sample it."""

    def node(kind: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}

    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "positive": node("CLIPTextEncode", text=text, clip=["checkpoint", 1]),
        "negative": node("CLIPTextEncode", text=negative, clip=["checkpoint", 1]),
        "latent": node("EmptyLatentImage", width=size, height=size, batch_size=1),
        "sampler": node(
            "KSampler", model=["checkpoint", 0], positive=["positive", 0], negative=["negative", 0],
            latent_image=["latent", 0], seed=seed, **SAMPLING,
        ),
        "decoded": node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2]),
        "picture": node("PreviewImage", images=["decoded", 0]),
    }  # fmt: skip


@cache
def _hash(file: Path) -> str:
    return sha256(file)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
