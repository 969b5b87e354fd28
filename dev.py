"""One door for developers: `python dev.py COMMAND`; see `--help`.

Runs under any Python 3.10-3.13 with the standard library alone; builds what it needs in the user's cache folder.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from benchmarks import NAMES  # noqa: E402
from devtools.environment import Environment, SetupError, environment, say  # noqa: E402

TEST_HELP = "the test suite; --compat writes docs/compatibility.md instead; further arguments go to pytest"


def run_inside(env: Environment, *arguments: str) -> int:
    """Run the environment's Python in the repository's root. Ctrl-C reaches it and it ends first; a request to
    terminate is handed on, so that no server is left behind."""
    variables = dict(os.environ, COMFYUI_PATH=str(env.comfyui), COMFYUI_PYTHON=str(env.python), PYTHONUTF8="1")
    variables["SEMANTIC_STEERING_BASE"] = str(env.base_directory)
    if env.oracle is not None:
        variables["SEMANTIC_STEERING_ORACLE"] = str(env.oracle)
    process = subprocess.Popen([str(env.python), *arguments], cwd=ROOT, env=variables)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:
        return process.wait()


def show_environment(env: Environment, as_json: bool) -> int:
    values = env.public()
    text = json.dumps(values) if as_json else "\n".join(f"{name}: {value}" for name, value in values.items())
    sys.stdout.write(text + "\n")
    return 0


def figure_options(options: argparse.Namespace) -> list[str]:
    """What `eval` and `bench` have in common, for the program that does the work."""
    files = [(name, value) for name, value in (("--json", options.json), ("--out", options.out)) if value]
    arguments = [part for name, value in files for part in (name, str(Path(value).resolve()))]
    return [*arguments, *(["--quick"] if options.quick else [])]


def gallery_options(options: argparse.Namespace) -> list[str]:
    """Those of `gallery`, with the folder of its own that a checkpoint's pictures go to by default."""
    out = options.out or f"gallery-{Path(options.checkpoint).stem}"
    files = {"checkpoint": options.checkpoint, "out": out, "loras": options.loras, "prompts": options.prompts}
    # Not resolved: a link may have the file's name while what it leads to has none.
    arguments = [part for name, file in files.items() if file for part in (f"--{name}", str(Path(file).absolute()))]
    return [*arguments, *(["--size", str(options.size)] if options.size is not None else [])]


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py", description="One door for developers.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="run the workflow files on the demo checkpoint; strips and report.json")
    demo.add_argument("--out", default="demo-out", help="folder for the pictures [demo-out]")
    gallery = commands.add_parser("gallery", help="the same strips on a checkpoint of your own; stops and resumes")
    gallery.add_argument("--checkpoint", metavar="FILE", required=True, help="with text encoder and autoencoder")
    gallery.add_argument("--out", metavar="DIR", help="folder for strips, index.html and report.json [gallery-NAME]")
    gallery.add_argument("--loras", metavar="DIR", help="folder with the slider files that the workflows name")
    gallery.add_argument("--prompts", metavar="FILE", help="a changed copy of devtools/gallery/gallery.yaml")
    gallery.add_argument("--size", type=int, metavar="PIXELS", help="of the pictures [the model's own]")
    serve = commands.add_parser("serve", help="ComfyUI with its page, the pack and the demo models")
    serve.add_argument("--port", type=int, default=8188)
    commands.add_parser("test", help=TEST_HELP, add_help=False)
    screenshots = commands.add_parser("screenshots", help="each workflow in the page after a run, as a picture")
    screenshots.add_argument("--out", default="docs/img/workflows", help="folder for the pictures [docs/img/workflows]")
    env = commands.add_parser("env", help="where everything is")
    env.add_argument("--json", action="store_true")
    train = commands.add_parser("train-demo", help="train the demo domain; stops and resumes at any moment")
    parts = ("vae", "model", "judge", "sliders")
    train.add_argument("--part", choices=parts, help="only this part [all, in this order]")
    evaluate = commands.add_parser("eval", help="the figures of docs/evaluation.md")
    evaluate.add_argument("--json", metavar="FILE", help="also write them to a file")
    evaluate.add_argument("--out", metavar="DIR", help="folder for the curves")
    evaluate.add_argument("--quick", action="store_true", help="a fraction of the samples, to see that it runs")
    bench = commands.add_parser("bench", help="the figures of docs/performance.md")
    bench.add_argument("name", nargs="?", choices=NAMES, help="only this benchmark [all]")
    bench.add_argument("--json", metavar="FILE", help="also write them to a file")
    bench.add_argument("--out", metavar="DIR", help="folder for the plot of `cost`")
    bench.add_argument("--quick", action="store_true", help="a tiny model once, to see that it runs")
    bench.add_argument("--docs", action="store_true", help="also put the tables into docs/performance.md")
    bench.add_argument("--read", metavar="FILE", help="the figures of an earlier --json instead of new ones")
    pictures = commands.add_parser("pictures", help="the pictures of settings in the help pages and the README")
    pictures.add_argument("names", nargs="*", metavar="NAME", help="only these, such as sega-scale [all]")
    pictures.add_argument("--out", metavar="DIR", help="folder for all of them [where the pages look for them]")
    options, rest = parser.parse_known_args()
    if rest and options.command != "test":
        parser.error(f"unknown arguments: {' '.join(rest)}")
    try:
        found = environment()
    except SetupError as problem:
        say(f"set-up stopped: {problem}")
        return 1
    except KeyboardInterrupt:
        say("set-up interrupted; run the command again to go on")
        return 130
    if options.command == "env":
        return show_environment(found, options.json)
    if options.command == "test":
        return run_inside(found, "-m", "devtools.test", *rest)
    if options.command == "demo":
        return run_inside(found, "-m", "devtools.demo.demo", "--out", str(Path(options.out).resolve()))
    if options.command == "screenshots":
        return run_inside(found, "-m", "devtools.page.screenshots", "--out", str(Path(options.out).resolve()))
    if options.command == "gallery":
        return run_inside(found, "-m", "devtools.gallery.gallery", *gallery_options(options))
    if options.command == "eval":
        return run_inside(found, "-m", "devtools.figures.evaluate", *figure_options(options))
    if options.command == "bench":
        arguments = ["--name", options.name] if options.name else []
        arguments += ["--read", str(Path(options.read).resolve())] if options.read else []
        arguments += ["--docs"] if options.docs else []
        return run_inside(found, "-m", "benchmarks", *arguments, *figure_options(options))
    if options.command == "pictures":
        out = ["--out", str(Path(options.out).resolve())] if options.out else []
        return run_inside(found, "-m", "devtools.pictures.pictures", *options.names, *out)
    if options.command == "serve":
        return run_inside(found, "-m", "devtools.demo.serve", "--port", str(options.port))
    return run_inside(found, "-m", "devtools.demo.train", *(["--part", options.part] if options.part else []))


if __name__ == "__main__":
    sys.exit(main())
