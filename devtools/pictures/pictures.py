"""`dev.py pictures [NAME ...] --out DIR`: the help pages' settings at too low, right and too high.

Each is a strip of one workflow file's results on the demo checkpoint, through a real server; what differs from the
file stands in picture_table.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from demo.files import whole

from ..demo.demo import place
from ..demo.scenes import SCENES, SIZE, override, workflow_file
from ..environment import say
from ..host import ROOT
from ..paths import folder_to_fill
from ..server.client import Prompt, PromptError
from ..server.results import fetch, own_preview, view, with_previews
from ..server.server import CHECKPOINT, Server, ServerError, lay_out, leave_when_terminated
from ..server.workflows import load, to_prompt
from ..strips import rows, tinted
from .table import PICTURES
from .takes import AFTER, AGAIN, BEFORE, PLACE, SAVED, Changes, Picture, Take

POSITION = {BEFORE: 0, AGAIN: 1, AFTER: -1}  # in the list of what a workflow's strips show


def nodes(prompt: Prompt, name: str) -> list[str]:
    """Ids of the nodes of this class or title; of the added ones also by their own id."""
    return [key for key, node in prompt.items() if name in (key, node["class_type"], node["_meta"]["title"])]


def changed(prompt: Prompt, changes: Changes, new: Prompt) -> Prompt:
    """The prompt with new nodes and changed inputs. A link names a node by its class, title or id; the last such node
    is meant."""
    added = {name: {**node, "_meta": {"title": name}} for name, node in new.items()}
    result: Prompt = {**prompt, **added}

    def resolved(value: Any) -> Any:
        return [nodes(result, value[0])[-1], value[1]] if isinstance(value, list) else value

    for name, node in added.items():
        result[name] = {**node, "inputs": {key: resolved(value) for key, value in node["inputs"].items()}}
    for name, inputs in changes.items():
        found = nodes(result, name)
        if not found:
            raise ValueError(f"no node {name!r} in the workflow")
        for node_id in found:
            linked = {key: resolved(value) for key, value in inputs.items()}
            result[node_id] = {**result[node_id], "inputs": {**result[node_id]["inputs"], **linked}}
    return result


def run_take(server: Server, info: dict[str, Any], picture: Picture, take: Take) -> Image.Image:
    """What a take shows, at its own size."""
    name = take.workflow or picture.workflow
    workflow, scene, loaded = load(workflow_file(name)), SCENES[name], None
    if scene.portrait is not None:
        loaded = place(server.base, f"{name}_{picture.seed}.png", scene, picture.seed)
    whole = override(workflow, with_previews(to_prompt(workflow, info)), CHECKPOINT, SIZE, scene, picture.seed, loaded)
    prompt = changed(changed(whole, picture.common, {}), take.changes, take.added)
    outputs = server.client.run(prompt)
    if take.shows == SAVED:
        shown = own_preview(server.client, prompt, outputs, "SaveImage")
        if shown is None:
            raise ValueError(f"{name}: the workflow saves nothing")
        return shown
    if take.shows in POSITION:
        return fetch(server.client, outputs)[POSITION[take.shows]]
    shown = view(server.client, outputs[take.shows]["images"][0])
    return tinted(fetch(server.client, outputs)[0], shown) if take.shows == PLACE else shown


def make(server: Server, info: dict[str, Any], picture: Picture) -> Image.Image:
    """All takes side by side, or the one take of a workflow that makes a strip itself."""
    shown = [run_take(server, info, picture, take) for take in picture.takes]
    if len(shown) == 1:
        return shown[0]
    return rows(shown, [take.label for take in picture.takes], picture.side, picture.columns)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py pictures")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these, such as sega-scale [all]")
    parser.add_argument(
        "--out", type=folder_to_fill, metavar="DIR", help="folder for all of them [where the pages look for them]"
    )
    options = parser.parse_args()
    unknown = set(options.names) - PICTURES.keys()
    if unknown:
        parser.error(f"no such picture: {', '.join(sorted(unknown))}; there are {', '.join(PICTURES)}")
    leave_when_terminated()
    try:
        say("starting ComfyUI")
        with TemporaryDirectory(prefix="semantic-steering-") as base, Server(lay_out(Path(base))) as server:
            info = server.client.object_info()
            for name in options.names or PICTURES:
                file = (options.out or ROOT / PICTURES[name].folder) / f"{name}.webp"
                file.parent.mkdir(parents=True, exist_ok=True)
                with whole(file) as part:
                    make(server, info, PICTURES[name]).save(part, quality=65, method=6)
                say(f"{file.name}: {file.stat().st_size / 1024:.0f} KB")
    except (ServerError, PromptError) as problem:
        say(str(problem))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
