"""What other packs' patches of the attention do to a batch of conditionings."""

from __future__ import annotations


def mixes_outputs(model_options: dict) -> bool:
    """Whether an attention's output is patched, as NAG does it: positive's chunk then holds something of negative's."""
    patches = model_options["transformer_options"].get("patches", {})
    return any(patches.get(name) for name in ("attn1_output_patch", "attn2_output_patch"))


def has_image_prompt(model_options: dict) -> bool:
    """Whether the attention to the text is patched, as IP-Adapter, InstantID, PuLID and ControlLLLite do it.

    They choose what to add to a chunk by its index, and know those of positive and negative only.
    """
    options = model_options["transformer_options"]
    return bool(options.get("patches_replace", {}).get("attn2") or options.get("patches", {}).get("attn2_patch"))
