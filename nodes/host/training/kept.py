"""What is kept of a training that was stopped: the slider in output/loras, and beside it what going on needs."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import torch
from torch import Tensor

from ..files import tensors
from .run import Training

logger = logging.getLogger("semantic_steering")

FOLDER = "loras"  # of the output folder, which the host lists among the LoRAs
STATE = ".training"  # the end of the name of what going on needs: no LoRA, and in no list
STEP, LOSSES, SCALE = "step", "losses", "scale"
MOMENTS = ("exp_avg", "exp_avg_sq")
LONGEST_NAME = 40
SAMPLED = 64  # of a layer's weights


@dataclass(frozen=True)
class Kept:
    """The place of one training: the same inputs and the same model have the same.

    title: for people; digest: of all that decides what a step does.
    """

    title: str
    digest: str
    about: Mapping[str, str]

    @classmethod
    def of(cls, training: Training, title: str, about: Mapping[str, str]) -> Kept:
        """To be made before the first step. about: the settings, for the file's header."""
        found = hashlib.sha256()
        for name, value in sorted(about.items()):
            found.update(f"{name}={value}\n".encode())
        for value in (*training.objective.given, *training.factors.parameters.values()):
            found.update(_bytes(value.detach()))
        for weight in _weights(training):
            found.update(_bytes(weight))
        return cls(title, found.hexdigest()[:12], about)

    @property
    def folder(self) -> Path:
        return Path(folder_paths.get_output_directory()) / FOLDER

    def files(self) -> list[Path]:
        """What was kept to go on from, the latest last."""
        return sorted(self.folder.glob(f"*_{self.digest}_step_*{STATE}"))

    def write(self, training: Training, why: str) -> Path | None:
        """The slider as it is now, in a file of its own; None before the first step, when nothing is trained. Raises
        OSError in words."""
        step = len(training.losses)
        if step == 0:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"\W+", "_", self.title).strip("_")[:LONGEST_NAME] or "slider"
        path = self.folder / f"{name}_{self.digest}_step_{step:05}.safetensors"
        before = self.files()
        if not path.exists():
            tensors.write(path, training.factors.tensors(), {**self.about, "state": f"{why} at step {step}"})
        state = path.with_suffix(STATE)
        if not state.exists():
            tensors.write(state, _state(training))
        for old in before:
            if old != state:
                old.unlink(missing_ok=True)
        logger.info("%s at step %d: the slider so far is %s; run again to go on from it", why, step, path.name)
        return path

    def resume(self, training: Training) -> int:
        """Bring a training to the step it was stopped at, bit for bit; 0 where nothing was kept."""
        for state in reversed(self.files()):
            slider = state.with_suffix(".safetensors")
            try:
                factors, moments = tensors.read(slider), tensors.read(state)
                states = _moments(training, moments)
                training.factors.load(factors, slider.name)
                training.optimiser.state.update(states)
                training.losses[:] = moments[LOSSES].tolist()
                training.scale = float(moments[SCALE])
            except (OSError, ValueError, KeyError) as problem:
                logger.warning("%s cannot be gone on from (%s); the training begins anew", slider.name, problem)
                continue
            return len(training.losses)
        return 0

    def forget(self) -> None:
        """After the last step: a slider that was kept stays, as any file of the user's."""
        for state in self.files():
            state.unlink(missing_ok=True)


def _bytes(value: Tensor) -> bytes:
    return value.cpu().contiguous().view(torch.uint8).numpy().tobytes()


def _weights(training: Training) -> Iterator[Tensor]:
    """A little of each trained layer's weight, as it was loaded, and the strengths of what is patched onto it: pictures
    alone do not say which checkpoint they were trained on."""
    weights = training.model.get_key_patches()
    for layer in training.factors.layers:
        (weight, _), *patches = weights[f"{layer.path}.weight"]
        few = weight.flatten()
        yield few[:: max(1, len(few) // SAMPLED)][:SAMPLED].float()
        yield torch.tensor([float(patch[0]) for patch in patches])


def _state(training: Training) -> dict[str, Tensor]:
    found = {LOSSES: torch.tensor(training.losses, dtype=torch.float64), SCALE: torch.tensor(training.scale)}
    for name, parameter in training.factors.parameters.items():
        own = training.optimiser.state.get(parameter)
        if own is None:  # what the estimates do not depend on, such as a last layer that CLIP skip leaves out
            continue
        found |= {f"{name}:{moment}": own[moment].detach().to("cpu", copy=True) for moment in MOMENTS}
        found[f"{name}:{STEP}"] = own[STEP].detach().to("cpu", copy=True)
    return found


def _moments(training: Training, kept: Mapping[str, Tensor]) -> dict[Any, dict[str, Tensor]]:
    """The optimiser's state of each parameter. Raises KeyError or ValueError for one of another training."""
    states: dict[Any, dict[str, Tensor]] = {}
    with torch.inference_mode(False):
        for name, parameter in training.factors.parameters.items():
            if f"{name}:{STEP}" not in kept:
                continue
            own = {moment: kept[f"{name}:{moment}"].to(parameter.device, copy=True) for moment in MOMENTS}
            if any(value.shape != parameter.shape for value in own.values()):
                raise ValueError(f"its {name!r} is of another size")
            states[parameter] = {**own, STEP: kept[f"{name}:{STEP}"].clone()}
    return states
