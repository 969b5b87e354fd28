"""What all trainings are told, and what is refused of it before anything begins."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import comfy.latent_formats
import comfyui_version
import torch
from torch import Tensor

from ..run.latents import internal, picture_latent
from ..run.patches import Use, check_unsteered
from .factors import Factors
from .layers import chosen, chosen_of_text

LONGEST = 1_000_000  # steps
LARGEST = 1e6  # of a latent; its square is a number in float32


@dataclass(frozen=True)
class Settings:
    """The inputs of that name, the same on all training nodes."""

    steps: int
    rank: int
    alpha: float
    layers: str
    learning_rate: float
    batch_size: int
    start_percent: float
    end_percent: float
    show_every: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("steps", "rank", "batch_size", "show_every"):
            value = getattr(self, name)
            if not 1 <= value <= LONGEST:
                raise ValueError(f"{name} is {value}; it must be from 1 to {LONGEST:,}")
        if not (math.isfinite(self.learning_rate) and 0 < self.learning_rate <= 1):
            raise ValueError(
                f"learning_rate is {self.learning_rate}; it must be a number above 0 and at most 1 (usually 0.0002 to "
                "0.005)"
            )
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha is {self.alpha}; it must be a number above 0 (usually 1, or the rank)")

    def factors(self, model: Any, slider: dict[str, Tensor] | None, clip: Any = None) -> Factors:
        """What is trained: beside the model's layers, or where a clip is given beside its own. slider: to go on
        from."""
        check_unsteered(model, Use.TRAINING)
        of, choose = (model, chosen) if clip is None else (clip, chosen_of_text)
        factors = Factors(choose(of, self.layers, self.rank), self.rank, self.alpha, self.seed)
        if slider is not None:
            factors.load(slider, "slider")
        return factors

    def told(self, **more: str | float) -> dict[str, str]:
        """All that decides what a step does, for a file's header. more: a node's own inputs."""
        own = asdict(self)
        del own["steps"], own["show_every"]  # how long, and how it is looked at
        return {name: str(value) for name, value in {**own, **more, "comfyui": comfyui_version.__version__}.items()}


def empty_latent(model: Any, width: int, height: int) -> Tensor:
    """One picture's latent without anything, [1, C, (1,) h, w]. width, height: in pixels, 0 for the model's own."""
    layout = model.get_model_object("latent_format")
    if layout.latent_dimensions == 1:
        raise ValueError("model makes sound; sliders are trained on models of pictures and videos")
    small = isinstance(layout, comfy.latent_formats.SD15) or layout.latent_dimensions == 3
    usual, ratio = 512 if small else 1024, layout.spacial_downscale_ratio
    for name, value in (("width", width), ("height", height)):
        if value < 0 or 0 < value < ratio:
            raise ValueError(f"{name} is {value}; it must be 0 (the model's own, {usual}) or at least {ratio} pixels")
    frames = [1] if layout.latent_dimensions == 3 else []
    return torch.zeros(1, layout.latent_channels, *frames, (height or usual) // ratio, (width or usual) // ratio)


def picture_batch(model: Any, latent: dict, name: str) -> Tensor:
    """The pictures of a LATENT, [P, C, ...], in the model's internal latent space, on the CPU. name: of the input."""
    samples = picture_latent(model, latent, name, "trained on")
    if not len(samples):
        raise ValueError(f"{name} holds no pictures; connect a batch of them, from VAE Encode")
    largest = float(samples.abs().max())
    if largest > LARGEST:
        raise ValueError(
            f"{name} holds values of up to {largest:.3g}, latents of pictures are below 100: nothing can be learnt "
            "from them. Connect a VAE Encode"
        )
    return internal(model, samples)
