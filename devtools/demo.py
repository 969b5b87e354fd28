"""`python -m devtools.demo --out DIR`: the workflow files on the demo checkpoint, with strips and a judged report.

The files are run as they are, in a real server; only what lies in their group (checkpoint, size, prompts) and the
seed of the two samplers is replaced.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from demo.judge import WEIGHTS, Judge
from demo.portraits.attributes import ATTRIBUTES, STYLES, judgeable
from demo.portraits.captions import ADJECTIVES, PEOPLE, PRESENT, STYLE_WORDS

from .client import Client, Prompt, PromptError, seconds
from .environment import say
from .host import ROOT
from .server import CHECKPOINT, Server, ServerError, lay_out
from .strips import overview, strip, thumbnail
from .workflows import load, to_prompt

WORKFLOWS = ROOT / "workflows"
SIZE = 128


@dataclass(frozen=True)
class Scene:
    """What the demo puts into a workflow's group, and the seeds it is run with."""

    prompt: str
    negative: str = ""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5, 6)


SCENES = {
    "sega_one_concept": Scene("a portrait of a woman with straight hair and no hat"),
    "sega_four_concepts": Scene("a portrait of a man with a beard and no hat"),
    "sega_style": Scene("a photo of a woman with straight hair and no hat"),
}


def group_nodes(workflow: dict[str, Any]) -> set[str]:
    """Ids of the nodes inside the workflow's one group."""
    (group,) = workflow["groups"]
    left, top, width, height = group["bounding"]
    return {
        str(node["id"])
        for node in workflow["nodes"]
        if left <= node["pos"][0] < left + width and top <= node["pos"][1] < top + height
    }


def override(workflow: dict[str, Any], prompt: Prompt, checkpoint: str, size: int, scene: Scene, seed: int) -> Prompt:
    """The prompt with another checkpoint, size, prompts and seed; everything else stays as the file has it."""
    changed: Prompt = json.loads(json.dumps(prompt))
    inside = group_nodes(workflow)
    for node in list(changed.values()):
        if node["class_type"] != "KSampler":
            continue
        node["inputs"]["seed"] = seed
        for name, text in (("positive", scene.prompt), ("negative", scene.negative)):
            origin = node["inputs"][name][0]
            if origin not in inside:
                raise ValueError(f"the {name} prompt (node {origin}) lies outside the workflow's group")
            changed[origin]["inputs"]["text"] = text
    for node_id in inside & changed.keys():
        inputs = changed[node_id]["inputs"]
        if changed[node_id]["class_type"] == "CheckpointLoaderSimple":
            inputs["ckpt_name"] = checkpoint
        elif changed[node_id]["class_type"] == "EmptyLatentImage":
            inputs["width"] = inputs["height"] = size
    return changed


def concepts(prompt: Prompt) -> list[dict[str, Any]]:
    """The inputs of the SEGA Concept nodes, in the file's order."""
    return [node["inputs"] for node in prompt.values() if node["class_type"] == "SEGAConcept"]


def _plain(text: str) -> str:
    return text.strip().lower().removeprefix("an ").removeprefix("a ")


def meaning(text: str) -> tuple[str, str]:
    """What a concept's words stand for in the portraits domain: ("attribute", its key) or ("style", its name)."""
    wanted = _plain(text)
    for name in ATTRIBUTES:
        words = PEOPLE[True] if name == "male" else (*PRESENT[name], *ADJECTIVES.get(name, ()))
        if wanted in map(_plain, words):
            return "attribute", name
    for name in STYLES:
        if wanted in (_plain(words.removesuffix(" of")) for words in STYLE_WORDS[name]):
            return "style", name
    raise ValueError(f"the portraits domain has no words for the concept {text!r}; see demo/portraits/captions.py")


def judged(judge: Judge, picture: Image.Image, style: str) -> dict[str, float]:
    """The judge's probabilities of a picture; attributes that cannot be judged are left out."""
    pixels = torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)
    probabilities = judge.probabilities(pixels.permute(2, 0, 1)[None])
    known = judgeable(probabilities > 0.5, torch.tensor([STYLES.index(style)]))
    rows = zip(ATTRIBUTES, probabilities[0].tolist(), known[0].tolist(), strict=True)
    return {name: round(probability, 4) for name, probability, possible in rows if possible}


def as_asked(asked: dict[str, str], probabilities: dict[str, float]) -> bool:
    """Whether a picture shows what one entry of `asked` wants; False where it cannot be judged."""
    probability = probabilities.get(asked["attribute"])
    return probability is not None and (probability > 0.5) == (asked["direction"] == "add")


def fetch(client: Client, outputs: dict[str, Any]) -> tuple[Image.Image, Image.Image]:
    """The two pictures of the comparison node at a workflow's end."""
    (compared,) = [output for output in outputs.values() if "a_images" in output]
    before, after = (
        Image.open(io.BytesIO(client.view(compared[key][0]))).convert("RGB") for key in ("a_images", "b_images")
    )
    return before, after


Column = tuple[str, Image.Image, Image.Image]


def run_workflow(
    client: Client, judge: Judge, info: dict[str, Any], file: Path, out: Path
) -> tuple[list[dict[str, Any]], list[Column]]:
    """Run a workflow file with every seed of its scene; writes the strips and the workflow's thumbnail.

    Returns the report's entries and the columns of the overview.
    """
    workflow, scene = load(file), SCENES[file.stem]
    prompt = to_prompt(workflow, info)
    used = concepts(prompt)
    means = [meaning(concept["text"]) for concept in used]
    asked = [
        {"attribute": name, "direction": concept["direction"]}
        for concept, (kind, name) in zip(used, means, strict=True)
        if kind == "attribute"
    ]
    style_after = next((name for kind, name in means if kind == "style"), "photo")
    words = ", ".join(f"{'+' if c['direction'] == 'add' else '-'} {c['text']} ({c['scale']:g})" for c in used)
    entries: list[dict[str, Any]] = []
    columns: list[Column] = []
    for seed in scene.seeds:
        done = client.wait(client.queue(override(workflow, prompt, CHECKPOINT, SIZE, scene, seed)))
        pictures = fetch(client, done["outputs"])
        before, after = judged(judge, pictures[0], "photo"), judged(judge, pictures[1], style_after)
        entry = {
            "workflow": file.stem, "seed": seed, "prompt": scene.prompt, "asked": asked, "before": before,
            "after": after, "neutral": [a["attribute"] for a in asked if as_asked(a, before)],
            "seconds": round(seconds(done), 2), "file": f"{file.stem}_{seed}.png",
        }  # fmt: skip
        changes = [f"{a['attribute']} {_shown(a, before)} > {_shown(a, after)}" for a in asked]
        lines = [f"{scene.prompt}   ·   seed {seed}", words]
        lines += ["judge: " + ", ".join(changes)] if changes else []
        strip(list(pictures), ["before", "after"], lines).save(out / entry["file"])
        say(f"{file.stem}, seed {seed}: {', '.join(changes) or words} ({entry['seconds']:.1f} s)")
        entries.append(entry)
        columns.append((words, *pictures))
    shown = next((i for i, entry in enumerate(entries) if not entry["neutral"]), 0)  # one where all had to change
    thumbnail(*columns[shown][1:]).save(out / f"{file.stem}.jpg", quality=85)
    return entries, columns[shown : shown + 2]


def _shown(asked: dict[str, str], probabilities: dict[str, float]) -> str:
    value = probabilities.get(asked["attribute"])
    return "hidden" if value is None else f"{value:.2f}"


def summary(name: str, entries: list[dict[str, Any]]) -> str:
    """One line about a workflow: how many of the edits that had something to change did change it."""
    mean = sum(entry["seconds"] for entry in entries) / len(entries)
    text = f"{name}: {len(entries)} pictures, {mean:.1f} s each"
    for asked in entries[0]["asked"]:
        rows = [e for e in entries if asked["attribute"] in e["before"] and asked["attribute"] not in e["neutral"]]
        reached = sum(as_asked(asked, entry["after"]) for entry in rows)
        text += f"; {asked['direction']} {asked['attribute']} {reached} of {len(rows)}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py demo")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    out = parser.parse_args().out
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave the with block, so that the server ends too
    missing = [file for file in (ROOT / "demo" / "models" / CHECKPOINT, WEIGHTS) if not file.exists()]
    if missing:
        say(f"{missing[0].name} is missing: run `python dev.py train-demo` first")
        return 1
    judge = Judge.load()
    out.mkdir(parents=True, exist_ok=True)
    pictures: list[dict[str, Any]] = []
    columns: list[Column] = []
    lines = []
    try:
        say("starting ComfyUI")
        # A base directory of its own: a server empties its temporary folder, also under one that runs beside it.
        with TemporaryDirectory(prefix="semantic-steering-") as base, Server(lay_out(Path(base))) as server:
            info = server.client.object_info()
            for file in sorted(WORKFLOWS.glob("*.json")):
                entries, some = run_workflow(server.client, judge, info, file, out)
                columns += some
                lines.append(summary(file.stem, entries))
                pictures += entries
    except (ServerError, PromptError) as problem:
        say(str(problem))
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    overview(columns).save(out / "before-after.webp", quality=85)
    report = out / "report.json"
    report.write_text(json.dumps({"pictures": pictures}, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write("\n".join([*lines, f"{report}"]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
