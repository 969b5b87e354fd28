"""`aim` beside one scale for all: how evenly ten attributes come out at one setting."""

from __future__ import annotations

from typing import Any

import torch

from ..environment import say
from .editing import pack
from .sega import PROMPT

SEED = 9_950_000  # kept apart from every seed that was used while the pack was developed
SETTINGS = (("scale", 1.0), ("scale", 2.0), ("scale", 3.0), ("aim", 1.0), ("aim", 1.5), ("aim", 2.0))


def figures(lab: Any, judge: Any, quick: bool) -> list[dict[str, Any]]:
    """A row for each setting: mean and spread over the attributes (the hat, which the prompt denies, left out) of how
    often they are as asked, and what else stays."""
    from demo.evaluate import outcome
    from demo.portraits.attributes import ATTRIBUTES
    from demo.portraits.captions import PRESENT

    nodes, host = pack("nodes.sega"), pack("nodes.host.sega.patch")
    seeds, positive = [SEED + i for i in range(4 if quick else 32)], lab.encode(PROMPT)
    before, rows = judge.probabilities(lab.pictures(seeds, positive)) > 0.5, []
    for kind, value in SETTINGS:
        settings = pack("nodes.host.sega.settings").SEGASettings(aim=value if kind == "aim" else 0.0)
        found = {}
        for name in ATTRIBUTES:
            if name != "hat":
                text = PRESENT[name][0].removeprefix("a ") if name in PRESENT else name
                scale = value if kind == "scale" else 5.0
                concept = nodes.SEGAConcept.execute(lab.clip, text, scale=scale).result[0]
                model = host.patch_model(lab.model, concept, settings)
                after = judge.probabilities(lab.pictures(seeds, positive, model)) > 0.5
                found[name] = outcome(before, after, {name: True})
        success = torch.tensor([row["success"] for row in found.values()])
        pairs = sum(row["pairs"] for row in found.values())
        kept = sum(row["preserved"] * row["pairs"] for row in found.values()) / pairs
        rows.append({
            kind: value, "mean": float(success.mean()), "deviation": float(success.std()),
            "least": float(success.min()), "most": float(success.max()), "kept": kept,
            "each": {name: row["success"] for name, row in found.items()},
        })  # fmt: skip
        say(f"aim: {rows[-1]}")
    return rows
