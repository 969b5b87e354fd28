"""`dev.py demo --out DIR`: the workflow files on the demo checkpoint, with strips and a judged report.

The files are run as they are, in a real server; only what lies in their group (checkpoint, size or picture, prompts),
the seeds and the slider files are replaced, and a few previews are added that the report is measured from.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from demo.judge import WEIGHTS, Judge
from demo.sliders import FILES

from ..environment import say
from ..host import ROOT
from ..paths import folder_to_fill, write
from ..server.client import Prompt, PromptError, seconds
from ..server.results import SWEPT, cells, fetch, measure, own_preview, with_previews
from ..server.server import CHECKPOINT, Server, ServerError, lay_out, leave_when_terminated
from ..server.workflows import load, to_prompt
from ..strips import notice, overview, strip, thumbnail
from .report import as_asked, asks, changes, has_mark, judged, judged_sweep, summary
from .scenes import LEFT_OUT, SCENES, SIZE, SOMEONE, Scene, dials, numbered, override, workflow_file


@dataclass(frozen=True)
class Staged:
    """A workflow file as a prompt with the demo's previews, its scene, and what it is run and judged with."""

    server: Server
    judge: Judge
    name: str
    workflow: dict[str, Any]
    prompt: Prompt
    scene: Scene
    out: Path


Column = tuple[str, Image.Image, Image.Image]


def run_workflow(
    server: Server, judge: Judge, info: dict[str, Any], name: str, out: Path
) -> tuple[list[dict[str, Any]], list[Column]]:
    """Run a scene's workflow file with every seed; writes the strips and the workflow's thumbnail.

    Returns the report's entries and the columns of the overview.
    """
    file, scene = workflow_file(name), SCENES[name]
    workflow = load(file)
    staged = Staged(server, judge, name, workflow, with_previews(to_prompt(workflow, info)), scene, out)
    results = [run_seed(staged, seed) for seed in scene.seeds]
    # One where all had to change.
    entry, pictures = next((result for result in results if not result[0]["neutral"]), results[0])
    ends = (pictures[0], pictures[-1])
    thumbnail(pictures if "sweep" in entry else ends).save(out / f"{file.stem}.jpg", quality=70, optimize=True)
    words = asks(scene, staged.prompt)[2]
    return [entry for entry, _ in results], [] if "sweep" in entry else [(words, *ends)]


def run_seed(staged: Staged, seed: int) -> tuple[dict[str, Any], list[Image.Image]]:
    """Run a workflow with one seed; writes its strip. Returns the report's entry, and the pictures of `fetch`."""
    client, judge, scene, name = staged.server.client, staged.judge, staged.scene, staged.name
    loaded = None if scene.portrait is None else place(staged.server.base, f"{name}_{seed}_input.png", scene, seed)
    prompt = override(staged.workflow, staged.prompt, CHECKPOINT, SIZE, scene, seed, loaded)
    done = client.wait(client.queue(prompt))
    pictures = fetch(client, done["outputs"])
    if len(pictures) == 1:  # a strip of a training's
        pictures = cells(pictures[0], SIZE)
    asked, style, words = asks(scene, staged.prompt)
    entry: dict[str, Any] = {"workflow": name, "seed": seed, "prompt": scene.prompt, "asked": asked}
    shown = [("before", pictures[0]), ("after", pictures[-1])]
    if scene.portrait is not None:
        (staged.out / str(loaded)).write_bytes((staged.server.base / "input" / str(loaded)).read_bytes())
        entry |= {"picture": loaded, "person": scene.portrait.person}
        unpainted = scene.portrait.picture(seed) if scene.portrait.strokes else None
        shown = measure(client, pictures, prompt, done["outputs"], entry, unpainted)
        if scene.portrait.marked:
            entry["marked"] = has_mark(pictures[-1])
    before, after = judged(judge, shown[0][1], "photo"), judged(judge, pictures[-1], style)
    entry |= {
        "before": before, "after": after, "neutral": [a["attribute"] for a in asked if as_asked(a, before)],
        "seconds": round(seconds(done), 2), "file": f"{name}_{seed}.png",
    }  # fmt: skip
    found = changes(entry)
    sheet = None
    turned = dials(staged.prompt)
    if SWEPT in done["outputs"]:
        if turned:
            entry["sweep"] = judged_sweep(judge, turned[0], pictures)
        sheet = own_preview(client, prompt, done["outputs"], "SaveImage")
    if sheet is None:
        lines = [f"{scene.prompt or 'no prompt'}   ·   seed {seed}", words, *([f"judge: {found}"] if found else [])]
        sheet = strip([picture for _, picture in shown], [label for label, _ in shown], lines)
    sheet.save(staged.out / entry["file"])
    say(f"{name}, seed {seed}: {found or words} ({entry['seconds']:.1f} s)")
    return entry, pictures


def place(base: Path, name: str, scene: Scene, seed: int) -> str:
    """Put the scene's pictures for a seed into the server's input folder; returns the first one's name there."""
    assert scene.portrait is not None  # only called for a workflow that loads a picture
    for number, picture in enumerate(scene.portrait.loaded(seed)):
        picture.save(base / "input" / numbered(name, number))
    return name


def leave_out(out: Path) -> list[str]:
    """Write the thumbnails of the workflow files that the portraits checkpoint cannot run: they show no result. Returns
    the report's lines about them."""
    for name, reason in LEFT_OUT.items():
        notice(SOMEONE.picture(1), f"No result to show here: it {reason}.").save(
            out / f"{name}.jpg", quality=70, optimize=True
        )
    return [f"{name}: left out, it {reason}" for name, reason in LEFT_OUT.items()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py demo")
    parser.add_argument(
        "--out", type=folder_to_fill, metavar="DIR", default="demo-out", help="folder for the pictures [demo-out]"
    )
    out = parser.parse_args().out
    leave_when_terminated()
    models = ROOT / "demo" / "models"
    needed = [models / CHECKPOINT, WEIGHTS, *FILES.values()]
    missing = [file for file in needed if not file.exists()]
    if missing:
        say(f"{missing[0].name} is missing: run `python dev.py train-demo` first")
        return 1
    judge = Judge.load()
    pictures: list[dict[str, Any]] = []
    columns: list[Column] = []
    lines = []
    try:
        say("starting ComfyUI")
        # A base directory of its own: a server empties its temporary folder, also under one that runs beside it.
        with TemporaryDirectory(prefix="semantic-steering-") as base, Server(lay_out(Path(base))) as server:
            info = server.client.object_info()
            for name in SCENES:
                entries, some = run_workflow(server, judge, info, name, out)
                columns += some
                lines.append(summary(name, entries))
                pictures += entries
    except (ServerError, PromptError) as problem:
        say(str(problem))
        return 1
    lines += leave_out(out)
    overview(columns).save(out / "before-after.webp", quality=85)
    report = out / "report.json"
    write(report, json.dumps({"pictures": pictures, "left_out": LEFT_OUT}, indent=2) + "\n")
    sys.stdout.write("\n".join([*lines, f"{report}"]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
