"""`dev.py serve`: ComfyUI with its page, the pack, the demo's models and a picture, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from demo.files import whole

from ..environment import say
from ..paths import short
from ..server.server import CHECKPOINT, Server, ServerError, base_directory, lay_out, leave_when_terminated
from .scenes import SIZE, SOMEONE

EXAMPLE = "example.png"  # the picture that the workflow files load: ComfyUI's own, which a base directory has not


def place_example(base: Path) -> None:
    """Put a portrait where the workflow files look for their picture, if nothing is there."""
    file = base / "input" / EXAMPLE
    if not file.exists():
        with whole(file) as part:
            SOMEONE.picture(1).save(part)


def port_number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{short(text)} is no port: choose a number from 1 to 65535, such as 8188")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py serve")
    parser.add_argument("--port", type=port_number, default=8188, help="[8188]")
    port = parser.parse_args().port
    leave_when_terminated()
    base = lay_out(base_directory())
    place_example(base)
    if not (base / "models" / "checkpoints" / CHECKPOINT).exists():
        say("the demo checkpoint is missing (`python dev.py train-demo` makes it); the page works without it")
    say("starting ComfyUI")
    try:
        with Server(base, port) as server:
            sys.stdout.write(f"{server.url}\n")
            sys.stdout.flush()
            say(f"{CHECKPOINT} knows small pictures: set width and height to {SIZE}, or megapixels to 0.02")
            say("Ctrl-C stops it")
            return server.wait()
    except KeyboardInterrupt:
        say("stopped")
        return 0
    except ServerError as problem:
        say(str(problem))
        return 1


if __name__ == "__main__":
    sys.exit(main())
