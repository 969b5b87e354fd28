"""The table of what a model can carry, from the patches' own statements (nodes/host/run/patches.py)."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from ..host import load_pack

TITLE = "## What a model carries"
TEXT = """What the nodes put on a model, as each says of itself: whether it acts in a part of a run only, what it has
the model evaluate beside positive and negative, and where it is refused, before sampling. On model_negative of the
Dual Model CFG Guider all are refused: ComfyUI calls nothing of what that model carries."""


def section(patches: Iterable[Any], uses: Iterable[Any]) -> str:
    """The section of docs/compatibility.md. patches: of the register; uses: all that can refuse one."""
    uses, reasons = list(uses), []
    lines = ["| what | made by | acts | adds to each evaluation | refused by |", "|---|---|---|---|---|"]
    for patch in sorted(patches, key=lambda patch: patch.key):
        acts = "in its window" if patch.windowed else "in the whole run"
        refused = []
        for use in uses:
            reason = patch.refusal(use)
            if reason is not None:
                reasons += [] if reason in reasons else [reason]
                refused.append(f"{use.value} ({reasons.index(reason) + 1})")
        cells = [patch.name, patch.nodes, acts, patch.conditionings or "nothing", ", ".join(refused) or "nothing"]
        lines.append(f"| {' | '.join(cells)} |")
    listed = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))
    return "\n\n".join([TITLE, TEXT, "\n".join(lines), listed])


def of_the_nodes() -> str:
    """The section of all that the nodes put on a model; after ComfyUI was prepared."""
    name = load_pack().__name__
    importlib.import_module(f"{name}.nodes")  # every node, so that every patch has been declared
    patches = importlib.import_module(f"{name}.nodes.host.run.patches")
    return section(patches.REGISTER.values(), patches.Use)
