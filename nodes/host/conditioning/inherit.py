"""Conditionings inside a guider: what concepts inherit, what the base of a direction is, and what is refused."""

from __future__ import annotations

import math
import uuid
from typing import Any

import comfy.sampler_helpers
import comfy.samplers
import torch

from .concept import RESTRICTIONS, ConceptInput, Conditioning

# What a concept takes over from the positive where it has none of its own: all that ComfyUI's nodes put beside the text
# for the network to look at. Not image prompts (unclip_conditioning), which say what to draw as words do.
INHERITED = (
    "control", "control_apply_to_uncond", "guidance", "reference_latents", "reference_latents_method",
    "reference_latents_text_embeds", "concat_latent_image", "concat_image", "concat_mask", "concat_mask_index",
    "noise_augmentation",
    # sizes and scores of SDXL
    "width", "height", "crop_w", "crop_h", "target_width", "target_height", "aesthetic_score",
    # pictures, controls, sound and speed of video models
    "clip_vision_output", "clip_vision_output_ref", "clip_vision_outputs", "time_dim_concat", "time_dim_replace",
    "context_latents", "vace_frames", "vace_mask", "vace_strength", "camera_conditions", "control_video",
    "pose_video_latent", "face_video_pixels", "reference_motion", "driving_mask_28ch", "ref_mask_28ch",
    "ref_mask_flag", "keyframe_idxs", "guide_attention_entries", "audio_embed", "audio_inject_scale", "ref_audio",
    "frame_rate", "fps", "motion_bucket_id", "augmentation_level",
)  # fmt: skip
# What the host's guidance calls for its estimates, in model_options; `estimates` where nobody has put anything there.
SLOT = "sampler_calc_cond_batch_function"
BASES = ("negative", "positive", "empty_negative_prompt")


def estimates(args: dict) -> list[torch.Tensor]:
    """The host's own batched evaluation of all conditionings, called as it calls what stands in SLOT."""
    return comfy.samplers.calc_cond_batch(
        args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
    )


def check_guider(guider: Any) -> None:
    """Refuse guiders that run two models (a difference across models is no direction) or know no positive."""
    if getattr(guider, "uncond_model_patcher", None) is not None:
        raise ValueError(
            "SEGA cannot steer a Dual Model CFG Guider: positive and negative come from two models, so their "
            "difference is not an edit direction. Use CFGGuider, or leave its model_negative unconnected"
        )
    if not guider.conds.get("positive"):
        raise ValueError(
            f"SEGA cannot steer this guider: it has no positive conditioning (it has {', '.join(guider.conds)}), from "
            "which concepts take their context. Use CFGGuider or a KSampler"
        )


def check_latent(guider: Any, shapes: list[torch.Size], pictures: bool = False) -> None:
    """Refuse packed latents, and a latent whose channels are another model family's.

    pictures: also refuse latents without height and width (sound), for masks and activity maps.
    """
    if len(shapes) > 1:
        raise ValueError(
            f"SEGA cannot steer a packed latent ({len(shapes)} parts, as audio with video): a threshold over parts of "
            "different kinds has no meaning. Sample the parts separately, or remove SEGA from this model"
        )
    if pictures and len(shapes[0]) < 4:
        raise ValueError(
            f"this latent has the shape {list(shapes[0])}, without height and width: masks and SEGA Sampler's activity "
            "need a picture or a video. Remove the masks and use SEGA Guidance before a KSampler"
        )
    expected = guider.model_patcher.get_model_object("latent_format").latent_channels
    found = shapes[0][1]
    if found != expected:
        raise ValueError(
            f"latent_image has {found} channels, this model's latents have {expected}: it was made for another model "
            "family. Encode the picture with this checkpoint's VAE, or connect an Empty Latent Image"
        )


def concept_conds(concept: ConceptInput, positive: list[dict]) -> list[dict]:
    """The concept as the guider holds conditionings: restrictions removed, the positive's context inherited.

    Hooks always come from the positive: the host registered those before this run began.
    """
    conds = comfy.sampler_helpers.convert_cond(concept.conditioning)
    for cond in conds:
        if len(conds) == 1:
            _remove_restrictions(cond)
        cond.pop("hooks", None)
        for key in (*INHERITED, "hooks"):
            if key in positive[0] and key not in cond:
                cond[key] = positive[0][key]
        cond["prompt_type"] = "positive"
    return conds


def check_encoded(**conditionings: Conditioning | None) -> None:
    """Refuse conditionings (by input name; None is not connected) that are empty, or encoded for different models."""
    first: tuple[str, Any] | None = None
    for name, conditioning in conditionings.items():
        if conditioning is None:
            continue
        if not conditioning:
            raise ValueError(f"{name} is empty; connect a CLIP Text Encode (its text may be empty)")
        for features, _ in conditioning:
            if not isinstance(features, torch.Tensor):  # some models need none
                continue
            if first is None:
                first = (name, features.shape[-1])
            elif features.shape[-1] != first[1]:
                raise ValueError(
                    f"{name} has {features.shape[-1]} text features, {first[0]} has {first[1]}: they were encoded for "
                    "different models. Connect the CLIP of this checkpoint to both"
                )


def check_width(concept: ConceptInput, conds: list[dict], positive: list[dict]) -> None:
    """Refuse a concept encoded for another model family."""
    for key, what in (("cross_attn", "text features"), ("pooled_output", "pooled text features")):
        for cond in conds:
            own, other = cond.get(key), positive[0].get(key)
            if isinstance(own, torch.Tensor) and isinstance(other, torch.Tensor) and own.shape[-1] != other.shape[-1]:
                raise ValueError(
                    f"concept {concept.name!r}: its conditioning has {own.shape[-1]} {what}, the positive has "
                    f"{other.shape[-1]}: it was encoded for another model family. Connect the CLIP of this checkpoint"
                )


def _remove_restrictions(cond: dict) -> None:
    for key in RESTRICTIONS:
        cond.pop(key, None)


def without_restrictions(conds: list[dict]) -> list[dict]:
    """Copies that hold over the whole picture and run."""
    copies = [dict(cond) for cond in conds]
    for cond in copies:
        _remove_restrictions(cond)
        cond["uuid"] = uuid.uuid4()  # the host tells conditionings apart by it
    return copies


def bases_to_copy(guider: Any) -> list[str]:
    """Conditionings of the guider that can be a base, but whose own estimate is not one: the base is an extra copy.

    Limited to an area, mask or range, the host returns exactly 0 outside it. And where a patch mixes the attention
    outputs of positive and negative (NAG), their estimates hold what no concept's has.
    """
    limits = {"area", "mask", "start_percent", "end_percent"}
    mixed = mixes_outputs(guider.model_options)
    conds = {name: guider.conds.get(name) or [] for name in BASES}
    return [name for name in BASES if conds[name] and (mixed or any(limits & cond.keys() for cond in conds[name]))]


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


def base_name(guider: Any, base: str) -> str:
    """Which conditioning of the guider the concepts' directions start from.

    auto: the negative if the guider has one and cfg ≠ 1, else the positive. PerpNeg's base is its empty prompt.
    """
    negative = "empty_negative_prompt" if guider.conds.get("empty_negative_prompt") else "negative"
    if base == "positive":
        return "positive"
    if base == "negative":
        if not guider.conds.get(negative):
            raise ValueError("base is negative, but this guider has no negative; set base to auto or positive")
        return negative
    return negative if guider.conds.get(negative) and not math.isclose(_cfg(guider), 1.0) else "positive"


def is_guided(guider: Any, base: str) -> bool:
    """Whether the guided prediction differs from the base's: not so for the positive alone at cfg 1."""
    return base != "positive" or not math.isclose(_cfg(guider), 1.0)


def _cfg(guider: Any) -> float:
    return getattr(guider, "cfg2", guider.cfg)  # DualCFG keeps the negative's weight in cfg2
