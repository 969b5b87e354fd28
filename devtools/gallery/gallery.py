"""`dev.py gallery --checkpoint FILE --out DIR`: the workflow files on a checkpoint of the user's own.

What is finished is kept with a hash of what it was made from: a run that was stopped goes on where it was, and one with
other prompts makes only what they change. Nothing judges the pictures; a person does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.error
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from pydantic import ValidationError

from demo.files import whole

from ..demo.scenes import workflow_file
from ..environment import say
from ..host import ROOT, has_accelerator
from ..paths import given, reason, write
from ..server.client import PromptError, seconds
from ..server.results import SWEPT, fetch, measure, own_preview, view
from ..server.server import Server, ServerError, lay_out, leave_when_terminated, link
from ..strips import strip
from .checkpoints import Checkpoint, CheckpointError, examine
from .page import caption, page, shown_edits, texts
from .plan import GRID, SMALLEST, Family, GalleryError, Job, Plan, Wishes, plan, read

PROMPTS = ROOT / "devtools" / "gallery" / "gallery.yaml"
LONG = 7 * 24 * 3600.0  # seconds: a large model without a GPU takes hours for a strip


@dataclass
class Gallery:
    """The folder with a gallery: the strips, what they were made from (report.json), and the page."""

    out: Path
    checkpoint: Checkpoint
    size: int
    wishes: Wishes
    strips: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        return self.out / "report.json"

    def take_up(self) -> None:
        """Make the folder, or go on with what is in it."""
        for folder in ("strips", "pictures"):
            (self.out / folder).mkdir(parents=True, exist_ok=True)
        if not self.report.exists():
            return
        try:
            found = json.loads(self.report.read_text(encoding="utf-8"))
            other = found["checkpoint"]
            self.strips = {(entry["scene"], entry["seed"]): entry for entry in found["strips"]}
        except (ValueError, KeyError, TypeError):
            raise GalleryError(f"{self.report} is not a gallery's: choose another folder with --out") from None
        if other["sha256"] != self.checkpoint.sha256:
            raise GalleryError(
                f"{self.out} holds the gallery of another checkpoint, {other['file']}: choose another folder with --out"
            )

    def missing(self, planned: Plan) -> list[Job]:
        """The jobs that are still to be done; forgets strips that are no longer wanted or were made from something
        else."""
        self.left_out = planned.left_out
        done = [job for job in planned.jobs if self._is_done(job)]
        self.strips = {(job.name, job.seed): self.strips[job.name, job.seed] for job in done}
        return [job for job in planned.jobs if (job.name, job.seed) not in self.strips]

    def _is_done(self, job: Job) -> bool:
        entry = self.strips.get((job.name, job.seed))
        return entry is not None and entry["made_from"] == job.made_from and (self.out / entry["file"]).exists()

    def add(self, job: Job, sheet: Image.Image, entry: dict[str, Any]) -> None:
        save(sheet, self.out / entry["file"], quality=85)
        self.strips[job.name, job.seed] = entry
        self.write()

    def write(self) -> None:
        """Report and page, in the order of the file with the prompts."""
        order = list(self.wishes.scenes)
        report = {
            "checkpoint": {
                "file": self.checkpoint.file.name, "sha256": self.checkpoint.sha256, "family": self.checkpoint.family,
                "size": self.size,
            },
            "scenes": {
                name: {"title": scene.title, "workflow": workflow_file(scene.workflow).name}
                for name, scene in self.wishes.scenes.items()
            },
            "strips": [self.strips[key] for key in sorted(self.strips, key=lambda key: (order.index(key[0]), key[1]))],
            "left_out": self.left_out,
            "failed": self.failed,
        }  # fmt: skip
        write(self.report, json.dumps(report, indent=2))
        write(self.out / "index.html", page(report))


def save(picture: Image.Image, file: Path, **options: Any) -> None:
    with whole(file) as part:
        picture.save(part, **options)


def source_picture(server: Server, job: Job, out: Path) -> tuple[str, Image.Image] | None:
    """The picture that a job edits, made if it is not there yet and put into ComfyUI's input folder as the scene paints
    it. Returns its file, relative to the gallery's folder, and itself before that."""
    if job.source is None:
        return None
    name = f"pictures/{job.source.made_from[:16]}.png"
    if not (out / name).exists():
        outputs = server.client.run(job.source.prompt, LONG)
        save(view(server.client, outputs["picture"]["images"][0]), out / name)
    with Image.open(out / name) as file:
        picture = file.convert("RGB")
    job.scene.painted(picture).save(server.base / "input" / job.source.loaded)
    return name, picture


def run(server: Server, job: Job, out: Path) -> tuple[Image.Image, dict[str, Any]]:
    """Do a job; returns its strip and the report's entry."""
    source = source_picture(server, job, out)
    done = server.client.wait(server.client.queue(job.prompt), LONG)
    pictures = fetch(server.client, done["outputs"])
    entry: dict[str, Any] = {"scene": job.name, "seed": job.seed, "texts": texts(job.prompt)}
    if source is not None:
        entry |= {"picture": source[0], "picture_of": job.scene.picture}
    entry |= {
        "edits": shown_edits(job.prompt), "seconds": round(seconds(done), 2),
        "file": f"strips/{job.name}_{job.seed}.webp", "made_from": job.made_from,
    }  # fmt: skip
    unpainted = source[1] if source and job.scene.strokes else None
    shown = measure(server.client, pictures, job.prompt, done["outputs"], entry, unpainted)
    swept = own_preview(server.client, job.prompt, done["outputs"], "SaveImage") if SWEPT in done["outputs"] else None
    if swept is not None:
        shown = [("", swept)]
    return strip([picture for _, picture in shown], [label for label, _ in shown], caption(entry)), entry


def make(server: Server, gallery: Gallery, family: Family, loras: Path | None) -> None:
    """Make what is missing. A strip that fails is reported and does not keep the others from being made."""
    jobs = plan(gallery.wishes, gallery.checkpoint, family, loras, server.client.object_info())
    missing = gallery.missing(jobs)
    gallery.write()
    if len(missing) < len(jobs.jobs):
        say(f"{len(jobs.jobs) - len(missing)} of {len(jobs.jobs)} strips are there already")
    started = time.monotonic()
    for i, job in enumerate(missing, 1):
        where = f"{job.name}, seed {job.seed}"
        try:
            sheet, entry = run(server, job, gallery.out)
        except PromptError as problem:
            gallery.failed[where] = str(problem)
            gallery.write()
            say(f"{i} of {len(missing)}: {where} failed: {problem}")
            continue
        gallery.add(job, sheet, entry)
        left = (time.monotonic() - started) / i * (len(missing) - i)
        say(f"{i} of {len(missing)}: {where} ({entry['seconds']:.1f} s; about {left / 60:.0f} min left)")


def place(base: Path, checkpoint: Path, loras: Path | None) -> Path:
    """A base directory with the checkpoint and the sliders, linked."""
    lay_out(base)
    try:
        link(base / "models" / "checkpoints" / checkpoint.name, checkpoint)
        for file in loras.iterdir() if loras else ():
            if file.is_file():
                link(base / "models" / "loras" / file.name, file)
    except OSError as problem:  # Windows: a link has to be on the file's drive
        raise GalleryError(f"{problem}: set TEMP to a folder on the drive of {checkpoint}") from None
    return base


def chosen_family(wishes: Wishes, checkpoint: Checkpoint, size: int | None, prompts: Path) -> Family:
    """How the checkpoint is used. size: instead of its own."""
    found = wishes.family(checkpoint.family)
    if found is None and size is None:
        raise GalleryError(
            f"ComfyUI takes {checkpoint.file.name} for {checkpoint.family}, whose size {prompts} does not hold: add it "
            "there under families, or give it with --size"
        )
    try:
        return Family.model_validate(
            {**(found.model_dump() if found else {}), **({} if size is None else {"size": size})}
        )
    except ValidationError:
        raise GalleryError(f"--size is {size}; it must be a multiple of {GRID}, {SMALLEST} or more") from None


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py gallery")
    parser.add_argument(
        "--checkpoint", type=given, metavar="FILE", required=True, help="with text encoder and autoencoder"
    )
    parser.add_argument(
        "--out", type=given, metavar="DIR", help="folder for strips, index.html and report.json [gallery-NAME]"
    )
    parser.add_argument(
        "--loras", type=given, metavar="DIR", help="folder with the slider files that the workflows name"
    )
    parser.add_argument(
        "--prompts", type=given, metavar="FILE", default=PROMPTS, help="a changed copy of devtools/gallery/gallery.yaml"
    )
    parser.add_argument("--size", type=int, metavar="PIXELS", help="of the pictures [the model's own]")
    options = parser.parse_args()
    leave_when_terminated()
    out, loras = options.out or given(f"gallery-{options.checkpoint.stem}"), options.loras
    try:
        if loras is not None and not loras.is_dir():
            raise GalleryError(f"--loras: there is no folder {loras}")
        wishes = read(options.prompts)
        say(f"reading {options.checkpoint}")
        checkpoint = examine(options.checkpoint)
        family = chosen_family(wishes, checkpoint, options.size, options.prompts)
        gallery = Gallery(out, checkpoint, family.size, wishes)
        gallery.take_up()
        say(f"{checkpoint.file.name} is {checkpoint.family}: pictures of {family.size} x {family.size} pixels")
        if not has_accelerator():
            say("there is no GPU that torch can use: this will take long")
        with TemporaryDirectory(prefix="semantic-steering-") as folder:
            base = place(Path(folder), checkpoint.file, loras)
            with Server(base) as server:
                try:
                    make(server, gallery, family, loras)
                except (urllib.error.URLError, ConnectionError):
                    raise ServerError(f"ComfyUI does not answer any more:\n{server.log()[-3000:]}") from None
    except OSError as problem:
        say(reason(problem))
        return 1
    except (GalleryError, CheckpointError, ServerError) as problem:
        say(str(problem))
        return 1
    except KeyboardInterrupt:
        say("stopped; the same command goes on")
        return 130
    lines = [f"{name}: left out, it {reason}" for name, reason in gallery.left_out.items()]
    lines += [f"{name}: failed, {reason}" for name, reason in gallery.failed.items()]
    sys.stdout.write("\n".join([*lines, str(out / "index.html")]) + "\n")
    return 1 if gallery.failed else 0


if __name__ == "__main__":
    sys.exit(main())
