"""`dev.py eval`: the figures of docs/evaluation.md."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..host import prepare_comfyui
from ..paths import file_to_write, folder_to_fill, write
from . import advice as evaluate_advice
from . import aim as evaluate_aim
from . import context as evaluate_context
from . import departures as evaluate_departures
from . import editing as evaluate_editing
from . import ladder as evaluate_ladder
from . import sega as evaluate_sega
from . import sliders as evaluate_sliders
from . import training as evaluate_training

PROMPT = "a portrait of a person with no hat"
PARTS = ("model", "edits", "context", "advice", "aim", "sega", "editing", "sliders", "training", "ladder", "departures")


def steer(lab: Any, text: str, **settings: Any) -> Any:
    """The checkpoint's model behind SEGA Concept and SEGA Guidance, with their defaults but for `settings`."""
    sega = evaluate_editing.pack("nodes.sega")
    concepts = sega.SEGAConcept.execute(clip=lab.clip, text=text, **settings).result[0]
    return sega.SEGAGuidance.execute(model=lab.model, concepts=concepts).result[0]


def figures(out: Path | None, quick: bool, parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """What the evaluation page shows. ComfyUI must be prepared. quick: a fraction of the samples."""
    from demo.judge import Judge
    from demo.laboratory import Laboratory

    lab, judge = Laboratory(), Judge.load()
    made: dict[str, Callable[[], Any]] = {
        "model": lambda: model(lab, judge, quick),
        "edits": lambda: edits(lab, judge, quick),
        "context": lambda: evaluate_context.figures(lab, judge, quick),
        "advice": lambda: evaluate_advice.figures(lab, judge, quick),
        "aim": lambda: evaluate_aim.figures(lab, judge, quick),
        "sega": lambda: evaluate_sega.figures(lab, judge, out, quick),
        "editing": lambda: evaluate_editing.figures(lab, judge, out, quick),
        "sliders": lambda: evaluate_sliders.figures(lab, judge, out, quick),
        "training": lambda: evaluate_training.figures(lab, judge, out, quick),
        "ladder": lambda: evaluate_ladder.figures(lab, judge, quick),
        "departures": lambda: evaluate_departures.figures(lab, judge, quick),
    }
    return {part: made[part]() for part in parts}


def model(lab: Any, judge: Any, quick: bool) -> dict[str, Any]:
    """The model itself, without edits."""
    from demo import evaluate

    lab.pictures([1], lab.encode(PROMPT))  # loads the models, so that the next one is a fair time
    started = time.perf_counter()
    lab.pictures([2], lab.encode(PROMPT))
    return {
        "seconds_per_picture": time.perf_counter() - started,
        "reconstruction_db": evaluate.reconstruction(lab, 32 if quick else 256),
        "judge": evaluate.judge_accuracy(judge, 256 if quick else 2048),
        "faithfulness": evaluate.faithfulness(lab, judge, 64 if quick else 512),
    }


def edits(lab: Any, judge: Any, quick: bool) -> dict[str, Any]:
    """One concept with the nodes' defaults, each attribute."""
    from demo import evaluate
    from demo.portraits.attributes import ATTRIBUTES
    from demo.portraits.captions import CONCEPTS

    seeds = [evaluate.EDIT_SEED + i for i in range(8 if quick else 64)]
    steered = {name: steer(lab, CONCEPTS[name]) for name in ATTRIBUTES}
    return evaluate.sega_edit(lab, judge, steered, True, PROMPT, seeds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py eval")
    parser.add_argument("--json", type=file_to_write, metavar="FILE", help="also write them to a file")
    parser.add_argument("--out", type=folder_to_fill, metavar="DIR", help="folder for the curves")
    parser.add_argument("--quick", action="store_true", help="a fraction of the samples, to see that it runs")
    parser.add_argument("--part", choices=PARTS, help="only this part of the page")
    options = parser.parse_args()
    prepare_comfyui()
    text = json.dumps(figures(options.out, options.quick, (options.part,) if options.part else PARTS), indent=1)
    sys.stdout.write(text + "\n")
    if options.json is not None:
        write(options.json, text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
