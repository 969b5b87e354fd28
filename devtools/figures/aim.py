"""`aim` beside one scale for all: how evenly nine attributes come out at one setting."""

from __future__ import annotations

from typing import Any

import torch

from ..environment import say
from .context import together
from .editing import pack
from .sega import PROMPT, concepts

SEED = 9_950_000  # kept apart from every seed that was used while the pack was developed
SETTINGS = (("scale", 1.0), ("scale", 2.0), ("scale", 3.0), ("aim", 1.0), ("aim", 1.5), ("aim", 2.0))


def figures(lab: Any, judge: Any, quick: bool) -> list[dict[str, Any]]:
    """A row for each setting: mean and spread over the attributes (the hat, which the prompt denies, left out) of how
    often they are as asked, and what else stays."""
    from demo.evaluate import sega_edit
    from demo.portraits.captions import CONCEPTS

    seeds, rows = [SEED + i for i in range(4 if quick else 32)], []
    for kind, value in SETTINGS:
        aim, scale = (value, 5.0) if kind == "aim" else (0.0, value)
        guidance = pack("nodes.sega").SEGAGuidance
        steered = {
            name: guidance.execute(lab.model, concepts(lab, [text], scale), aim=aim).result[0]
            for name, text in CONCEPTS.items()
            if name != "hat"
        }
        found = sega_edit(lab, judge, steered, True, PROMPT, seeds)
        success = torch.tensor([row["success"] for row in found.values()])
        rows.append({
            kind: value, "mean": float(success.mean()), "deviation": float(success.std()),
            "least": float(success.min()), "most": float(success.max()),
            "kept": together(list(found.values()))["preserved"],
            "each": {name: row["success"] for name, row in found.items()},
        })  # fmt: skip
        say(f"aim: {rows[-1]}")
    return rows
