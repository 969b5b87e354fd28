"""The text-encoder half of a LoRA."""

from __future__ import annotations

from typing import Any

import comfy.sd

from .fitting import Layers


class MissingClip:
    """Stands for a text encoder that nobody connected, and says so to whoever uses it.

    Not to the host's cache, which asks every output for its `patcher`.
    """

    def __getattr__(self, name: str) -> Any:
        if name in vars(comfy.sd.CLIP) or name in ("cond_stage_model", "tokenizer"):
            raise ValueError(
                "this clip comes from a Slider LoRA Loader whose clip input is not connected. Connect the checkpoint's "
                "CLIP to that input, or take clip from the checkpoint loader"
            )
        raise AttributeError(name)


def patched_clip(clip: Any, layers: Layers, strength: float) -> Any:
    """A clone of a CLIP with the slider's text-encoder half, or what stands for a missing one."""
    if clip is None:
        return MissingClip()
    clone = clip.clone()
    if strength != 0:
        clone.add_patches(layers.clip, strength)
    return clone
