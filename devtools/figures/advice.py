"""What the verdict says of a run's edits, and whether it is right: runs with settings drawn at random, judged."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..environment import say
from .editing import pack

# Kept apart from every seed that was used while the pack was developed.
SEED = 11_000_000
PROMPTS = (
    "a portrait of a person with no hat", "a photo of a woman with no hat", "a portrait of a man with no hat",
)  # fmt: skip
PICTURES, RUNS = 8, 262
SCALES = (0.3, 0.5, 1, 1.5, 2, 3, 5, 8, 12, 20)
STARTS = (0, 0.1, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.95)
ENDS = (1, 1, 1, 0.8, 0.6, 0.4)
SAMPLERS = {"euler": 4, "dpmpp_2m": 3, "euler_ancestral": 2, "dpmpp_2m_sde": 1, "heun": 1, "euler_cfg_pp": 1.2,
            "dpmpp_2m_cfg_pp": 0.8}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """The settings of one run. concepts: attribute, whether it is added, scale, start, end and threshold of each."""

    seeds: list[int]
    prompt: str
    cfg: float
    sampler: str
    scheduler: str
    steps: int
    over: str
    in_prompt: bool
    concepts: list[tuple[str, bool, float, float, float, float]]

    @property
    def contradicts(self) -> bool:
        """Whether it adds what nobody can have at once."""
        from demo.portraits.attributes import BALD_EXCLUDES

        added = {name for name, adds, *_ in self.concepts if adds}
        return "bald" in added and not added.isdisjoint(BALD_EXCLUDES)


def draw(number: int) -> Drawn:
    """The settings of a run, always the same for its number."""
    from demo.portraits.attributes import ATTRIBUTES

    rng = random.Random(100_003 + number)
    sampler = rng.choices(list(SAMPLERS), list(SAMPLERS.values()))[0]
    count = rng.choices([1, 2, 3, 4], [6, 2, 1, 1])[0]
    names = rng.sample([name for name in ATTRIBUTES if name != "hat"], count)
    in_prompt, alike = rng.random() < 0.5, rng.random() < 0.5
    common = rng.choice(SCALES), rng.choice(STARTS), rng.choice(ENDS)
    concepts = []
    for name in names:
        start, end = common[1:] if alike else (rng.choice(STARTS), rng.choice(ENDS))
        adds = rng.random() >= 0.12
        scale = common[0] if alike else rng.choice(SCALES)
        threshold = rng.choice([0.9, 0.9, 0.9, 0.8, 0.95, 0.5])
        concepts.append((name, adds, scale, start, end if end > start else 1, threshold))
    prompt = rng.choice(PROMPTS)
    cfg = rng.choice([1, 1.5, 2, 3] if "cfg_pp" in sampler else [1, 3, 5, 8])
    scheduler, steps = rng.choice(["normal", "normal", "karras", "simple"]), rng.choice([20, 20, 20, 12, 30])
    seeds = [SEED + number * PICTURES + i for i in range(PICTURES)]
    return Drawn(
        seeds, prompt, cfg, sampler, scheduler, steps, rng.choice(["channel", "position"]), in_prompt, concepts
    )


def run(lab: Any, judge: Any, drawn: Drawn) -> list[dict[str, Any]]:
    """A row for each picture and concept that can be judged and was not as asked: how far the picture moved along it,
    whether it is as asked, and how many of the attributes that nobody asked for changed, of how many."""
    from demo.portraits.attributes import INDEX, judgeable
    from demo.portraits.captions import CONCEPTS

    def answers(model: Any) -> Tensor:
        how = drawn.cfg, drawn.steps, drawn.sampler, drawn.scheduler
        return judge.probabilities(lab.pictures(drawn.seeds, lab.encode(drawn.prompt), model, *how)) > 0.5

    chained = None
    for name, adds, scale, start, end, threshold in drawn.concepts:
        chained = pack("nodes.sega").SEGAConcept.execute(
            lab.clip, CONCEPTS[name], "add" if adds else "remove", scale, start, threshold, end, chained,
            prompt=drawn.prompt if drawn.in_prompt else "",
        ).result[0]  # fmt: skip
    runs: list[Any] = []
    settings = pack("nodes.host.sega.settings").SEGASettings(threshold_over=drawn.over)
    steered = pack("nodes.host.sega.patch").patch_model(lab.model, chained, settings, runs.append)
    after, before = answers(steered), answers(lab.model)
    photo = torch.zeros(len(before), dtype=torch.long)
    judged = judgeable(before, photo) & judgeable(after, photo)
    others = judged.clone()
    others[:, [INDEX[name] for name, *_ in drawn.concepts]] = False
    changed = ((before != after) & others).sum(1).tolist()
    moved, rows = runs[0].report.measure.moved(), []
    for place, (name, adds, *_) in enumerate(drawn.concepts):
        far = moved.get(place)
        fits = (before[:, INDEX[name]] != adds) & judged[:, INDEX[name]]
        for i in fits.nonzero().flatten().tolist():
            rows.append({
                "kind": "CFG++" if "cfg_pp" in drawn.sampler else "no guidance" if drawn.cfg == 1 else "guidance",
                "moved": far[i] if far and math.isfinite(far[i]) else 0.0,
                "seen": bool(after[i, INDEX[name]] == adds), "changed": changed[i], "others": int(others[i].sum()),
            })  # fmt: skip
    return rows


def zones(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The page's table: by kind of run and zone of `moved` how many edits are seen, and what else changes."""
    bounds, found = pack("nodes.host.page.verdict"), []
    edges = (-math.inf, bounds.UNSEEN, bounds.CLEAR, bounds.TOO_FAR, math.inf)
    for kind in ("guidance", "no guidance", "CFG++"):
        for low, high in pairwise(edges):
            some = [row for row in rows if row["kind"] == kind and low <= row["moved"] < high]
            pairs = sum(row["others"] for row in some)
            found.append({
                "kind": kind, "from": low, "to": high, "edits": len(some),
                "seen": sum(row["seen"] for row in some) / len(some) if some else None,
                "others changed": sum(row["changed"] for row in some) / pairs if pairs else None,
                "any other changed": sum(row["changed"] > 0 for row in some) / len(some) if some else None,
            })  # fmt: skip
    return found


def figures(lab: Any, judge: Any, quick: bool) -> dict[str, Any]:
    """The evaluation page's figures about the verdict."""
    rows, made = [], 0
    for number in range(10 if quick else RUNS):
        drawn = draw(number)
        if drawn.contradicts:
            continue
        rows += run(lab, judge, drawn)
        made += len(drawn.seeds)
        say(f"advice, run {number}: {len(rows)} edits")
    return {"pictures": made, "edits": len(rows), "zones": zones(rows)}
