"""`dev.py fuzz`: a campaign against a real server with the pack, a matrix of faults, or a long run; what they find."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from ..environment import say
from ..paths import file_to_write, short, write
from ..server import random_checkpoint
from ..server.server import Server, ServerError, lay_out, leave_when_terminated, link
from .campaign import Campaign, Report
from .faults import FaultReport, Faults
from .soak import Soak, SoakReport

HOST = Path(__file__).parent / "host"


def prepared(base: Path, checkpoint: Path) -> Path:
    """A base directory with what the prompts of a campaign need."""
    import numpy as np
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    lay_out(base)
    link(base / "custom_nodes" / "fuzz", HOST)
    link(base / "models" / "checkpoints" / "random.safetensors", checkpoint)
    pixels = np.mgrid[0:64, 0:64].sum(0)[..., None].repeat(3, -1).astype(np.uint8)
    Image.fromarray(pixels).save(base / "input" / "picture.png")
    generator = torch.Generator().manual_seed(0)
    layer = "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q"
    down, up = torch.randn(4, 128, generator=generator) / 12, torch.randn(128, 4, generator=generator)
    slider = {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
    save_file(slider, base / "models" / "loras" / "good.safetensors")
    return base


def above_zero(kind: type[int] | type[float]) -> Callable[[str], float]:
    """An argument's type: with none or fewer, nothing would be tried and nothing found."""

    def number(text: str) -> float:
        with contextlib.suppress(ValueError):
            if kind(text) > 0:
                return kind(text)
        raise argparse.ArgumentTypeError(f"{short(text)} is not a{' whole' * (kind is int)} number above 0")

    return number


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py fuzz")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--faults", action="store_true", help="interrupts and failures at every point of every node")
    what.add_argument("--soak", action="store_true", help="the workflow files over and over, from two clients")
    parser.add_argument("--minutes", type=above_zero(float), default=30.0, help="how long at most [30]")
    parser.add_argument("--seed", type=int, default=0, help="of the order and of all that is random [0]")
    parser.add_argument(
        "--most", type=above_zero(int), metavar="N", help="end after N prompts [--soak: 1000]; of --faults: of each"
    )
    parser.add_argument(
        "--json", type=file_to_write, metavar="FILE", help="write all findings with their prompts to a file"
    )
    options = parser.parse_args()
    leave_when_terminated()
    until = time.monotonic() + 60 * options.minutes
    run: Campaign | Faults | Soak | None = None
    try:
        with TemporaryDirectory(prefix="semantic-steering-fuzz-") as folder:
            base = prepared(Path(folder), random_checkpoint.write(Path(folder) / "random.safetensors"))
            # The default cache keeps what it can until memory is short: then growth would say nothing.
            with Server(base, flags=("--cache-classic",) if options.soak else ()) as server:
                if options.faults:
                    run = Faults(server, options.seed)
                elif options.soak:
                    run = Soak(server, options.seed)
                else:
                    run = Campaign(server, options.seed)
                run.run(until, options.most)
            if isinstance(run, Faults):
                run.under_flags(base)
    except (ServerError, ConnectionError) as problem:
        say(str(problem))
        return 1
    finally:
        if run is not None:
            report(run.report, options.json)
    return 1 if run is None or run.report.findings else 0


def report(found: Report | FaultReport | SoakReport, file: Path | None) -> None:
    """Say what was done and found, a line for each kind, look and finding."""
    if file is not None:
        write(file, json.dumps(found.content(), indent=1))
    sys.stdout.write("\n".join(found.lines()).encode("utf-8", "replace").decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())
