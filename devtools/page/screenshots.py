"""`dev.py screenshots --out DIR`: each workflow's graph in ComfyUI's page after a run, as a picture, in both renderers
and in two languages."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from ..demo.scenes import SCENES
from ..environment import say
from ..paths import folder_to_fill
from ..server.client import PromptError
from ..server.server import Server, ServerError, lay_out, leave_when_terminated
from .browser import Browser, BrowserError

# The folder in DIR, whether nodes are the page's elements, and the page's language.
PAGES = (("", True, "en"), ("canvas", False, "en"), ("zh", True, "zh"))
# Whether two letters look alike: then both are drawn as the box of a font that has neither.
NO_LETTERS = """() => {
    const pen = Object.assign(document.createElement('canvas'), {width: 32, height: 32}).getContext('2d')
    pen.font = '24px sans-serif'
    const [one, other] = ['引', '导'].map(letter => {
        pen.clearRect(0, 0, 32, 32)
        pen.fillText(letter, 2, 26)
        return pen.getImageData(0, 0, 32, 32).data.join()
    })
    return one === other
}"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py screenshots")
    where = "docs/img/workflows"
    parser.add_argument(
        "--out",
        type=folder_to_fill,
        metavar="DIR",
        default=where,
        help=f"folder for the pictures [{where}]; those on a canvas or in Chinese in folders of it",
    )
    out = parser.parse_args().out
    leave_when_terminated()
    say("starting ComfyUI")
    try:
        with (
            TemporaryDirectory(prefix="semantic-steering-") as base,
            Server(lay_out(Path(base))) as server,
            Browser(server) as browser,
        ):
            if browser.evaluate(NO_LETTERS):
                raise BrowserError("no font of this machine has Chinese letters; install one, such as Noto Sans CJK")
            for folder, elements, language in PAGES:
                (out / folder).mkdir(exist_ok=True)
                browser.set(Comfy_Locale=language)
                browser.open()
                browser.renderer(elements)
                for name in SCENES:
                    browser.stage(name)
                    browser.wait_for_pictures(browser.run())
                    file = out / folder / f"{name}.webp"
                    browser.screenshot(file)
                    say(f"{file.relative_to(out)}: {file.stat().st_size / 1000:.0f} KB")
    except (ServerError, PromptError, BrowserError) as problem:
        say(str(problem))
        return 1
    sys.stdout.write(f"{out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
