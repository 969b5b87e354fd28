"""`dev.py fuzz`: a campaign against a real server with the pack; what it finds, as a list."""

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
    parser.add_argument("--minutes", type=above_zero(float), default=30.0, help="how long [30]")
    parser.add_argument("--seed", type=int, default=0, help="of the order and of the random graphs [0]")
    parser.add_argument("--most", type=above_zero(int), metavar="N", help="end after N prompts")
    parser.add_argument(
        "--json", type=file_to_write, metavar="FILE", help="write all findings with their prompts to a file"
    )
    options = parser.parse_args()
    leave_when_terminated()
    try:
        with TemporaryDirectory(prefix="semantic-steering-fuzz-") as folder:
            base = prepared(Path(folder), random_checkpoint.write(Path(folder) / "random.safetensors"))
            with Server(base) as server:
                campaign = Campaign(server, options.seed)
                try:
                    campaign.run(time.monotonic() + 60 * options.minutes, options.most)
                finally:
                    report(campaign.report, options.json)
    except (ServerError, ConnectionError) as problem:
        say(str(problem))
        return 1
    return 1 if campaign.report.findings else 0


def report(found: Report, file: Path | None) -> None:
    """Say what became of the prompts, a line for each kind and each finding."""
    if file is not None:
        write(file, json.dumps(found.content(), indent=1))
    lines = [f"{found.prompts} prompts, seed {found.seed}, {found.canaries} canaries"]
    lines += [f"  {count:6} {kind}" for kind, count in found.outcomes.most_common()]
    lines += [
        "  {prompts:6.0f} prompts: {MB:.0f} MB, {files:.0f} files, {threads:.0f} threads".format(**look)
        for look in found.usage
    ]
    lines += [f"{entry['kind']}: {entry['what']}: {entry['words'][:300]}" for entry in found.findings]
    sys.stdout.write("\n".join(lines).encode("utf-8", "replace").decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())
