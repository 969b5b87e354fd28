"""The context of a conditioning: all it holds beside its words. Concept and base of a direction have the same, so that
the words are all they differ in."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import comfy.sampler_helpers
import torch

from .concept import RESTRICTIONS, ConceptInput, Conditioning

# What the host's text encoders give (tests/nodes/conditioning/test_context.py looks for others in the host's source),
# and what says what to draw as words do: image prompts, places of words.
WORDS = frozenset((
    "cross_attn", "pooled_output", "attention_mask", "attention_mask_img_shape", "cross_attn_controlnet",
    "conditioning_mt5xl", "attention_mask_mt5xl", "conditioning_llama3", "conditioning_byt5small",
    "conditioning_lyrics", "lyrics_strength", "audio_codes", "t5xxl_ids", "t5xxl_weights", "text_input_ids",
    "num_layers_stacked", "deepstack", "deepstack_embeds", "visual_pos_masks", "grid", "minimax_token_tags",
    "sam3_multi_cond", "unprocessed_ltxav_embeds", "unclip_conditioning", "gligen",
))  # fmt: skip
# What the host tells conditionings apart by, and the range of a text encoder's own hooks.
MARKS = frozenset(("model_conds", "uuid", "prompt_type", "clip_start_percent", "clip_end_percent"))

Context = dict[str, Any]


def context_of(cond: Mapping[str, Any]) -> Context:
    """All of a conditioning but its words and its limits: ControlNet, hooks, guidance, pictures, sizes, whatever other
    nodes put there. A value of None is none."""
    return {
        key: value
        for key, value in cond.items()
        if value is not None and key not in WORDS and key not in MARKS and key not in RESTRICTIONS
    }


def differences(one: Context, other: Context) -> list[str]:
    """The keys in which two contexts differ."""
    keys = (one.keys() | other.keys()) - {"control_apply_to_uncond"}  # which says whom the host hands the control on to
    return sorted(key for key in keys if not _equal(one.get(key), other.get(key)))


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one.to(other.device), other)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    return isinstance(one, (str, int, float)) and isinstance(other, (str, int, float)) and one == other


def concept_conds(concept: ConceptInput, context: Context) -> list[dict]:
    """The concept as the guider holds conditionings: without limits, in the positive's context where it has none of its
    own. Hooks always come from the positive: the host registered those before this run began."""
    conds = comfy.sampler_helpers.convert_cond(concept.conditioning)
    for cond in conds:
        if len(conds) == 1:
            remove_limits(cond)
        cond.pop("hooks", None)
        cond.update((key, value) for key, value in context.items() if cond.get(key) is None)
    return conds


def appended(prompt: Conditioning, concept: Conditioning) -> Conditioning:
    """A prompt's conditioning with a concept's tokens after its own, as the host's Conditioning (Concat) joins them;
    all else of words is the prompt's, limits and context are the concept's.

    Raises ValueError for conditionings without tokens, and where a model's masks of tokens cannot be joined.
    """
    joined = []
    for tokens, options in concept:
        first, words = prompt[0]
        if not (isinstance(tokens, torch.Tensor) and isinstance(first, torch.Tensor)):
            raise ValueError("prompt and conditioning have no tokens that could be joined; leave prompt unconnected")
        if len(tokens) != len(first):
            raise ValueError(
                f"prompt is a batch of {len(first)} texts, conditioning one of {len(tokens)}: connect one text each"
            )
        own = {key: value for key, value in words.items() if key in WORDS}
        masks = [each.get("attention_mask") for each in (words, options)]
        if any(mask is not None for mask in masks):
            ones = [torch.ones(each.shape[:2], dtype=torch.long) for each in (first, tokens)]
            found = [one if mask is None else mask.to(one) for mask, one in zip(masks, ones, strict=True)]
            own["attention_mask"] = torch.cat(found, dim=1)
        others = {key: value for key, value in options.items() if key not in WORDS}
        joined.append([torch.cat([first, tokens.to(first)], dim=1), {**own, **others}])
    return joined


def in_context(cond: dict, context: Context) -> dict:
    """A copy that says the same words in another context, over the whole picture and run."""
    own = context_of(cond)
    copy = {key: value for key, value in cond.items() if key not in own} | context
    remove_limits(copy)
    copy["uuid"] = uuid.uuid4()  # the host tells conditionings apart by it
    return copy


def remove_limits(cond: dict) -> None:
    for key in RESTRICTIONS:
        cond.pop(key, None)
