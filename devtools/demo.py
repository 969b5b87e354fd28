"""`python -m devtools.demo --out DIR`: the workflow files on the demo checkpoint, with strips and a judged report.

The files are run as they are, in a real server; only what lies in their group (checkpoint, size or picture, prompts)
and the seeds are replaced, and a few previews are added that the report is measured from.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
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
from .scenes import SCENES, SIZE, Scene, concepts, override
from .server import CHECKPOINT, Server, ServerError, lay_out, leave_when_terminated
from .strips import overview, strip, thumbnail, tinted
from .workflows import load, to_prompt

WORKFLOWS = ROOT / "workflows"
MASK, AUTOENCODER = "demo mask", "demo autoencoder"  # ids of the previews that the demo adds


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


def fetch(client: Client, outputs: dict[str, Any]) -> list[Image.Image]:
    """The pictures of the comparison nodes at a workflow's end: the one they have in common, then each one's other."""
    compared = [outputs[node] for node in sorted(outputs, key=_natural) if "a_images" in outputs[node]]
    return [_view(client, compared[0]["a_images"]), *(_view(client, output["b_images"]) for output in compared)]


def _natural(node_id: str) -> tuple[int, str]:
    return (int(node_id) if node_id.isdigit() else 0, node_id)


def _view(client: Client, images: list[dict[str, str]]) -> Image.Image:
    return Image.open(io.BytesIO(client.view(images[0]))).convert("RGB")


def with_previews(prompt: Prompt) -> Prompt:
    """The prompt and, for the report, previews of what the workflow does not show: where the mask of its last paste is
    above 0, and, where it has two comparisons, what the autoencoder alone makes of the picture."""
    added: Prompt = {}
    kinds = {node["class_type"]: (node_id, node["inputs"]) for node_id, node in prompt.items()}

    def add(node_id: str, kind: str, **inputs: Any) -> list[Any]:
        added[node_id] = {"class_type": kind, "inputs": inputs, "_meta": {"title": node_id}}
        return [node_id, 0]

    if "ImageCompositeMasked" in kinds:
        inside = add(f"{MASK} edge", "ThresholdMask", mask=kinds["ImageCompositeMasked"][1]["mask"], value=0.0)
        add(MASK, "PreviewImage", images=add(f"{MASK} picture", "MaskToImage", mask=inside))
    if sum(node["class_type"] == "ImageCompare" for node in prompt.values()) > 1:
        encoder, inputs = kinds["VAEEncode"]
        decoded = add(f"{AUTOENCODER} picture", "VAEDecode", samples=[encoder, 0], vae=inputs["vae"])
        add(AUTOENCODER, "PreviewImage", images=decoded)
    return {**prompt, **added}


def _pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), dtype=np.float64)


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Peak signal-to-noise ratio of two pictures in dB."""
    error = float(np.mean((_pixels(one) - _pixels(other)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def background_exact(before: Image.Image, after: Image.Image, mask: Image.Image) -> bool:
    """Whether every pixel where the mask is 0 is the same in both pictures."""
    outside = np.asarray(mask.convert("L")) == 0
    return bool((_pixels(before) == _pixels(after)).all(axis=-1)[outside].all())


def asks(scene: Scene, prompt: Prompt) -> tuple[list[dict[str, str]], str, str]:
    """What a scene wants of its pictures: the attributes, the style after the edit, and the words for both."""
    used = concepts(prompt)
    means = [meaning(concept["text"]) for concept in used]
    asked = [{"attribute": name, "direction": "add" if there else "remove"} for name, there in scene.asked.items()]
    asked += [
        {"attribute": name, "direction": concept["direction"]}
        for concept, (kind, name) in zip(used, means, strict=True)
        if kind == "attribute"
    ]
    style = next((name for kind, name in means if kind == "style"), "photo")
    words = ", ".join(f"{'+' if c['direction'] == 'add' else '-'} {c['text']} ({c['scale']:g})" for c in used)
    return asked, style, ", ".join(filter(None, (scene.words, words)))


Column = tuple[str, Image.Image, Image.Image]


def run_workflow(
    server: Server, judge: Judge, info: dict[str, Any], file: Path, out: Path
) -> tuple[list[dict[str, Any]], list[Column]]:
    """Run a workflow file with every seed of its scene; writes the strips and the workflow's thumbnail.

    Returns the report's entries and the columns of the overview.
    """
    client, workflow, scene = server.client, load(file), SCENES[file.stem]
    prompt = with_previews(to_prompt(workflow, info))
    asked, style_after, words = asks(scene, prompt)
    entries: list[dict[str, Any]] = []
    columns: list[Column] = []
    for seed in scene.seeds:
        loaded = None if scene.portrait is None else place(server.base, f"{file.stem}_{seed}_input.png", scene, seed)
        done = client.wait(client.queue(override(workflow, prompt, CHECKPOINT, SIZE, scene, seed, loaded)))
        pictures = fetch(client, done["outputs"])
        shown = [("before", pictures[0]), ("after", pictures[-1])]
        entry: dict[str, Any] = {"workflow": file.stem, "seed": seed, "prompt": scene.prompt, "asked": asked}
        if scene.portrait is not None:
            (out / str(loaded)).write_bytes((server.base / "input" / str(loaded)).read_bytes())
            entry |= {"picture": loaded, "person": scene.portrait.person}
            shown = measure(client, scene.portrait.picture(seed), scene, pictures, done["outputs"], entry)
        before, after = judged(judge, shown[0][1], "photo"), judged(judge, pictures[-1], style_after)
        entry |= {
            "before": before, "after": after, "neutral": [a["attribute"] for a in asked if as_asked(a, before)],
            "seconds": round(seconds(done), 2), "file": f"{file.stem}_{seed}.png",
        }  # fmt: skip
        changes = [f"{a['attribute']} {_shown(a, before)} > {_shown(a, after)}" for a in asked]
        lines = [f"{scene.prompt or 'no prompt'}   ·   seed {seed}", words]
        lines += ["judge: " + ", ".join(changes)] if changes else []
        strip([picture for _, picture in shown], [label for label, _ in shown], lines).save(out / entry["file"])
        say(f"{file.stem}, seed {seed}: {', '.join(changes) or words} ({entry['seconds']:.1f} s)")
        entries.append(entry)
        columns.append((words, pictures[0], pictures[-1]))
    first = next((i for i, entry in enumerate(entries) if not entry["neutral"]), 0)  # one where all had to change
    thumbnail(*columns[first][1:]).save(out / f"{file.stem}.jpg", quality=85)
    return entries, columns[first : first + 1]


def place(base: Path, name: str, scene: Scene, seed: int) -> str:
    """Put the scene's picture for a seed into the server's input folder; returns its name there."""
    assert scene.portrait is not None  # only called for a workflow that loads a picture
    scene.portrait.loaded(seed).save(base / "input" / name)
    return name


def measure(
    client: Client, portrait: Image.Image, scene: Scene, pictures: list[Image.Image], outputs: dict[str, Any],
    entry: dict[str, Any],
) -> list[tuple[str, Image.Image]]:  # fmt: skip
    """Add to a report's entry what is measured beside the judge; returns what its strip shows, with labels."""
    if MASK in outputs:
        mask = _view(client, outputs[MASK]["images"])
        entry["background_exact"] = background_exact(pictures[0], pictures[-1], mask)
        previews = [value["images"] for node, value in outputs.items() if "images" in value and node != MASK]
        preview = _view(client, previews[0]) if previews else tinted(pictures[0], mask)  # a node's own, if it has one
        return [("before", pictures[0]), ("mask", preview), ("after", pictures[-1])]
    if AUTOENCODER in outputs:
        entry["psnr"] = round(psnr(pictures[0], pictures[1]), 2)
        entry["psnr_autoencoder"] = round(psnr(pictures[0], _view(client, outputs[AUTOENCODER]["images"])), 2)
        return list(zip(("picture", "the picture again", "with the prompt"), pictures, strict=True))
    if scene.portrait is not None and scene.portrait.strokes:
        return [("before", portrait), ("with strokes", pictures[0]), ("after", pictures[-1])]
    return [("before", pictures[0]), ("after", pictures[-1])]


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
    if "background_exact" in entries[0]:
        text += f"; background exact {sum(entry['background_exact'] for entry in entries)} of {len(entries)}"
    if "psnr" in entries[0]:
        again, alone = (sum(entry[key] for entry in entries) / len(entries) for key in ("psnr", "psnr_autoencoder"))
        text += f"; reconstruction {again:.1f} dB (the autoencoder alone: {alone:.1f} dB)"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py demo")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    out = parser.parse_args().out
    leave_when_terminated()
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
            for name in SCENES:
                entries, some = run_workflow(server, judge, info, WORKFLOWS / f"{name}.json", out)
                columns += some
                lines.append(summary(name, entries))
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
