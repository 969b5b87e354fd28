"""Strengths that travel with the conditionings, as one more of the tensors that the host batches for the network.

Whatever order, number or tiling of entries another pack makes of a call, each entry has its own strengths beside it.
"""

from __future__ import annotations

from typing import Any

from comfy.conds import CONDRegular
from torch import Tensor

from .patches import PREFIX

STRENGTHS = f"{PREFIX}strengths"  # among a conditioning's model_conds


def with_strengths(cond: dict, strengths: Tensor) -> dict:
    """A conditioning of a run, as the host has processed it, with strengths [B or 1, K] for its pictures."""
    return {**cond, "model_conds": {**cond["model_conds"], STRENGTHS: CONDRegular(strengths)}}


def arrived(network_inputs: dict[str, Any]) -> Tensor | None:
    """Take out what has come with a forward pass, [entries, K]: the network does not know it."""
    return network_inputs.pop(STRENGTHS, None)


def of_entries(strengths: Tensor, entries: int, layer: str) -> Tensor:
    """Strengths of the pictures, for the entries that a layer sees: video models fold frames into the batch, picture by
    picture."""
    given = len(strengths)
    if given in (1, entries):
        return strengths
    if entries % given:
        raise ValueError(
            f"layer {layer} sees {entries} entries for {given} pictures: this model cannot run sliders of "
            "different strengths in one batch. Sample each strength in a run of its own, with apply_to both"
        )
    return strengths.repeat_interleave(entries // given, 0)
