"""`dev.py screenshots --out DIR`: each workflow's graph in ComfyUI's page after a run, as a picture."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from ..demo.scenes import SCENES
from ..environment import say
from ..paths import given
from ..server.client import PromptError
from ..server.server import Server, ServerError, lay_out, leave_when_terminated
from .browser import Browser, BrowserError


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py screenshots")
    where = "docs/img/workflows"
    parser.add_argument("--out", type=given, metavar="DIR", default=where, help=f"folder for the pictures [{where}]")
    out = parser.parse_args().out
    leave_when_terminated()
    out.mkdir(parents=True, exist_ok=True)
    say("starting ComfyUI")
    try:
        with (
            TemporaryDirectory(prefix="semantic-steering-") as base,
            Server(lay_out(Path(base))) as server,
            Browser(server) as browser,
        ):
            browser.renderer(True)  # the other one does not show ComfyUI's comparison
            for name in SCENES:
                browser.stage(name)
                browser.wait_for_pictures(browser.run())
                file = out / f"{name}.webp"
                browser.screenshot(file)
                say(f"{file.name}: {file.stat().st_size / 1000:.0f} KB")
    except (ServerError, PromptError, BrowserError) as problem:
        say(str(problem))
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    sys.stdout.write(f"{out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
