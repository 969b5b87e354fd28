"""`dev.py train-demo`: trains the demo domain; stops and resumes at any moment."""

from __future__ import annotations

import argparse
import logging
import sys

from ..environment import cache_folder, locked, say
from ..host import prepare_comfyui
from ..server.client import PromptError
from ..server.server import ServerError, leave_when_terminated
from . import sliders


def networks(part: str | None) -> None:
    """The autoencoder, the diffusion model with its text encoder, and the classifier, or one of them."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("semantic_steering").setLevel(logging.INFO)
    prepare_comfyui(cpu=True)
    from comfy.cli_args import args

    args.use_pytorch_cross_attention = True  # the default on a CPU is slower to differentiate
    # ComfyUI must be set up before the demo's modules import it.
    from demo.training import judge, model, vae
    from demo.training.export import CHECKPOINT, export

    folder = cache_folder() / "training"
    say(f"training in {folder}; stop with Ctrl-C, run again to go on")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(cache_folder() / "training.lock"):  # another checkout's training is this one too
        if part in (None, "vae"):
            vae.train(folder)
        if part in (None, "model"):
            unet, text = model.train(folder)
            export(folder, unet, text, vae.train(folder))
            sys.stdout.write(f"{CHECKPOINT}\n")
        if part in (None, "judge"):
            judge.train(folder)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py train-demo")
    parser.add_argument(
        "--part", choices=("vae", "model", "judge", "sliders"), help="only this part [all, in this order]"
    )
    part = parser.parse_args().part
    try:
        if part != "sliders":
            networks(part)
        if part in (None, "sliders"):
            leave_when_terminated()
            sliders.train()
    except KeyboardInterrupt:
        say("interrupted; run the command again: networks go on from their last saved state, sliders begin anew")
        return 130
    except (ServerError, PromptError) as problem:
        say(str(problem))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
