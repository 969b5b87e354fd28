"""What concepts inherit from the positive, and conditionings without their limits."""

from __future__ import annotations

import uuid

import comfy.sampler_helpers

from .concept import RESTRICTIONS, ConceptInput

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


def without_restrictions(conds: list[dict]) -> list[dict]:
    """Copies that hold over the whole picture and run."""
    copies = [dict(cond) for cond in conds]
    for cond in copies:
        _remove_restrictions(cond)
        cond["uuid"] = uuid.uuid4()  # the host tells conditionings apart by it
    return copies


def _remove_restrictions(cond: dict) -> None:
    for key in RESTRICTIONS:
        cond.pop(key, None)
