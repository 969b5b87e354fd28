"""What a checkpoint file is, by ComfyUI's own detection, before anything is started with it."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..host import prepare_comfyui


class CheckpointError(Exception):
    """The file cannot be used; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint with its text encoder and autoencoder.

    family: ComfyUI's name for the model, with " v-prediction" where that is what it predicts.
    """

    file: Path
    family: str
    sha256: str


def sha256(file: Path) -> str:
    """The hash by which sites that share models know a file."""
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while piece := handle.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def examine(file: Path) -> Checkpoint:
    """Raises CheckpointError for what Load Checkpoint could not make a whole model of."""
    if file.is_dir():
        raise CheckpointError(f"{file} is a folder: name the checkpoint's one file")
    if not file.exists():
        raise CheckpointError(f"there is no file {file}")
    prepare_comfyui(cpu=True)
    import folder_paths

    if file.suffix.lower() not in folder_paths.supported_pt_extensions:
        known = ", ".join(sorted(folder_paths.supported_pt_extensions))
        raise CheckpointError(f"{file} is not a file that Load Checkpoint takes ({known})")
    try:
        identity = sha256(file)
    except OSError as problem:
        raise CheckpointError(f"{file} cannot be read: {problem.strerror}") from None
    return Checkpoint(file, _family(file, _read(file)), identity)


def _read(file: Path) -> dict[str, Any]:
    import comfy.utils
    from safetensors import SafetensorError
    from torch import Tensor

    broken = (SafetensorError, pickle.UnpicklingError, OSError, RuntimeError, ValueError, TypeError, EOFError, KeyError)
    try:
        loaded: Any = comfy.utils.load_torch_file(str(file))
        state = dict(loaded)
    except broken as problem:
        text = str(problem).strip().splitlines()
        raise CheckpointError(
            f"{file} is damaged or is no checkpoint ({text[0] if text else type(problem).__name__}): compare its size "
            "with that of the page you have it from"
        ) from None
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _family(file: Path, state: dict[str, Any]) -> str:
    import comfy.model_detection as detection
    import comfy.utils
    from comfy.model_base import ModelType

    import demo.host  # noqa: F401  (the portraits checkpoint is one too)

    prefix = detection.unet_prefix_from_state_dict(state)
    config = detection.model_config_from_unet(state, prefix)
    if config is None:
        alone = detection.model_config_from_unet(state, "")
        what = (
            f"holds only a diffusion model ({type(alone).__name__})" if alone else "holds no model that ComfyUI knows"
        )
        raise CheckpointError(f"{file} {what}: a checkpoint with text encoder and autoencoder is needed")
    name = type(config).__name__
    # Copies: the host takes what it finds out of the dict.
    texts = config.process_clip_state_dict(dict(state))
    prefixes = {prefix: "" for prefix in config.vae_key_prefix}
    pictures = comfy.utils.state_dict_prefix_replace(dict(state), prefixes, filter_keys=True)
    missing = [part for part, found in (("text encoder", texts), ("autoencoder", pictures)) if not found]
    if missing:
        raise CheckpointError(
            f"{file} ({name}) holds no {' and no '.join(missing)}: a checkpoint with both is needed. ComfyUI's node "
            "Save Checkpoint makes one of the parts that you use"
        )
    predicts_v = config.model_type(state, prefix) == ModelType.V_PREDICTION
    return f"{name} v-prediction" if predicts_v else name
