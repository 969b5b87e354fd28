"""SEGA in the context of the picture's prompt, beside the bare text: what is edited, and what else changes."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..environment import say
from .editing import pack
from .sega import FOUR, PROMPT

# Kept apart from every seed that was used while the pack was developed.
SEED = 9_800_000
TEXTS = {**FOUR, "curls": "curls", "bangs": "bangs"}
# (cfg, way, threshold_over, scale): the paper's form at the node's default; then the concept in its context, by words
# and by joined conditionings; the last of each cfg are what the workflow files have.
WAYS = (
    (5.0, "bare", "channel", 5.0), (5.0, "bare", "channel", 3.0), (5.0, "joined", "channel", 5.0),
    (5.0, "prompt", "channel", 3.0), (5.0, "prompt", "position", 5.0), (5.0, "prompt", "position", 3.0),
    (1.0, "bare", "channel", 2.0), (1.0, "joined", "channel", 2.0), (1.0, "prompt", "channel", 2.0),
    (1.0, "prompt", "position", 2.0), (1.0, "prompt", "position", 3.0),
)  # fmt: skip
# A thing that the prompt itself asks for: (text, way, scale); below 0 is away from it.
BEARDED = "a portrait of a man with a beard and no hat"
REMOVALS = (
    ("a beard", "bare", -8.0),
    ("a beard", "prompt", -8.0),
    ("no beard", "bare", 5.0),
    ("no beard", "prompt", 5.0),
)


def steered(lab: Any, prompt: str, text: str, way: str, over: str, scale: float) -> Any:
    """The model behind one SEGA concept."""
    nodes, settings = pack("nodes.sega"), pack("nodes.host.sega.settings").SEGASettings(threshold_over=over)
    if way == "joined":
        made = nodes.SEGAConceptConditioning.execute(lab.encode(text), scale=scale, prompt=lab.encode(prompt))
    else:
        made = nodes.SEGAConcept.execute(lab.clip, text, scale=scale, prompt=prompt if way == "prompt" else "")
    return pack("nodes.host.sega.patch").patch_model(lab.model, made.result[0], settings)


class Judged:
    """The judge's answers for one prompt and its seeds, bool [N, 10]."""

    def __init__(self, lab: Any, judge: Any, prompt: str, seeds: list[int]):
        self.lab, self.judge, self.prompt, self.seeds = lab, judge, prompt, seeds
        self.positive = lab.encode(prompt)
        self._before: dict[float, Tensor] = {}

    def answers(self, cfg: float, model: Any = None) -> Tensor:
        return self.judge.probabilities(self.lab.pictures(self.seeds, self.positive, model, cfg)) > 0.5

    def before(self, cfg: float) -> Tensor:
        if cfg not in self._before:
            self._before[cfg] = self.answers(cfg)
        return self._before[cfg]

    def edit(self, cfg: float, text: str, way: str, over: str, scale: float, wanted: dict[str, bool]) -> dict[str, Any]:
        """The outcome."""
        from demo.evaluate import outcome

        model = steered(self.lab, self.prompt, text, way, over, scale)
        return outcome(self.before(cfg), self.answers(cfg, model), wanted)


def together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Several attributes' outcomes as one."""
    rows = [row for row in rows if row["eligible"]]
    eligible, pairs = sum(row["eligible"] for row in rows), sum(row["pairs"] for row in rows)
    success = sum(row["success"] * row["eligible"] for row in rows) / eligible if eligible else math.nan
    kept = sum(row["preserved"] * row["pairs"] for row in rows) / pairs if pairs else math.nan
    return {"eligible": eligible, "success": success, "pairs": pairs, "preserved": kept}


def figures(lab: Any, judge: Any, quick: bool) -> dict[str, Any]:
    """The evaluation page's figures about a concept's context: ways, removal."""
    judged = Judged(lab, judge, PROMPT, [SEED + i for i in range(4 if quick else 32)])
    bearded = Judged(lab, judge, BEARDED, [SEED + 2000 + i for i in range(4 if quick else 32)])
    result: dict[str, Any] = {"ways": [], "removals": []}

    def note(kind: str, row: dict[str, Any]) -> None:
        result[kind].append(row)
        say(f"context, {kind}: {row}")

    for cfg, way, over, scale in WAYS:
        rows = [judged.edit(cfg, text, way, over, scale, {name: True}) for name, text in TEXTS.items()]
        note("ways", {"cfg": cfg, "way": way, "threshold_over": over, "scale": scale, **together(rows)})
    for text, way, scale in REMOVALS:
        row = bearded.edit(5.0, text, way, "position" if way == "prompt" else "channel", scale, {"beard": False})
        note("removals", {"text": text, "way": way, "scale": scale, **together([row])})
    return result
