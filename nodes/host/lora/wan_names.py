"""diffusers' names of Wan's layers, which the host's table does not have."""

from __future__ import annotations

import re
from typing import Any

import comfy.model_base

BLOCK = re.compile(r"diffusion_model\.(blocks\.\d+)\.(self_attn|cross_attn|ffn)\.(\w+)$")
OF_BLOCK = {
    "self_attn": ("attn1", {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}),
    "cross_attn": (
        "attn2",
        {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "k_img": "add_k_proj", "v_img": "add_v_proj"},
    ),
    "ffn": ("ffn", {"0": "net.0.proj", "2": "net.2"}),
}
OTHERS = {
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
}


def diffusers_names(model: Any, table: dict[str, Any]) -> dict[str, Any]:
    """{diffusers' name: weight} for a Wan MODEL, nothing for others. table: the host's, with the model's own names."""
    if not isinstance(model.model, comfy.model_base.WAN21):
        return {}
    found = {}
    for name, target in table.items():
        block = BLOCK.match(name)
        if block:
            part, ends = OF_BLOCK[block[2]]
            if block[3] in ends:
                found[f"transformer.{block[1]}.{part}.{ends[block[3]]}"] = target
        other = OTHERS.get(name.removeprefix("diffusion_model."))
        if other is not None:
            found[f"transformer.{other}"] = target
    return found
