"""What travels over a SEGA_CONCEPTS socket, and its translation into the core's terms for one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....guidance_core import Concept, SigmaWindow, Window
from ..files.names import short

Conditioning = list[list[Any]]  # ComfyUI's [[tensor, {options}], ...]

MAX_CONCEPTS = 16
LARGEST_SCALE = 20.0
# What limits a conditioning to a part of the picture or of the run. The pack applies these to the guidance term
# itself: the host returns exactly 0 outside them, which would make a difference of estimates meaningless.
RESTRICTIONS = (
    "area", "mask", "mask_strength", "set_area_to_bounds", "strength",
    "start_percent", "end_percent", "timestep_start", "timestep_end", "default",
)  # fmt: skip


@dataclass(frozen=True)
class ConceptInput:
    """One concept as its node was filled in. scale is signed (below 0 = away), one number or, from a sweep, one for
    each picture of the batch; mask is in picture space; in_prompt: whether the conditioning says the picture's own
    prompt and the concept, so that its direction starts from the positive; hints: what its node has to say of it."""

    name: str
    conditioning: Conditioning
    scale: float | tuple[float, ...]
    threshold: float
    window: Window
    mask: Tensor | None = None
    in_prompt: bool = False
    hints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Concept(self.scale, self.threshold, SigmaWindow(1.0, 0.0))  # the core's own range checks
        if not self.conditioning:
            raise ValueError(f"concept {self.name!r}: the conditioning is empty; connect a CLIP Text Encode")
        if len(self.conditioning) > 1:
            for _, options in self.conditioning:
                found = restrictions_in(options)
                if found:
                    raise ValueError(
                        f"concept {self.name!r}: its conditioning has {len(self.conditioning)} entries and one of them "
                        f"is limited by {found[0]}; a limited concept must have one entry. Use one SEGA Concept an area"
                    )
        if self.mask is not None and not torch.isfinite(self.mask).all():
            raise ValueError(f"concept {self.name!r}: the mask holds NaN or infinite values")

    @property
    def options(self) -> dict[str, Any]:
        return self.conditioning[0][1]

    @property
    def limited(self) -> bool:
        """True if the concept acts in a part of the picture only."""
        return self.mask is not None or any(key in self.options for key in ("mask", "area"))

    @property
    def title(self) -> str:
        """The name in a line that people can read."""
        return short(self.name)

    @property
    def strength(self) -> float:
        """The conditioning's own strength: it multiplies γ."""
        return float(self.options.get("strength", 1.0)) if len(self.conditioning) == 1 else 1.0

    @property
    def total_scale(self) -> float | tuple[float, ...]:
        """The scale times that strength."""
        if isinstance(self.scale, tuple):
            return tuple(scale * self.strength for scale in self.scale)
        return self.scale * self.strength

    @property
    def whole_window(self) -> Window:
        """The window, narrowed by the conditioning's own range (ConditioningSetTimestepRange)."""
        start, end = self.options.get("start_percent", 0.0), self.options.get("end_percent", 1.0)
        return self.window.intersect(Window(start, max(start, end)))

    @property
    def neutral(self) -> bool:
        """True if the concept can change nothing (its mask is looked at when the latent size is known)."""
        total = self.total_scale
        silent = not any(total) if isinstance(total, tuple) else total == 0
        return silent or self.whole_window.empty

    @property
    def description(self) -> dict[str, Any]:
        """What a reader of saved vectors wants to know about it."""
        window = self.whole_window
        return {
            "name": self.name, "scale": self.total_scale, "threshold": self.threshold,
            "start_percent": window.start_percent, "end_percent": window.end_percent,
        }  # fmt: skip

    def check_batch(self, batch: int) -> None:
        """Refuse a sweep's concept in a run of another batch."""
        if isinstance(self.scale, tuple) and len(self.scale) != batch:
            raise ValueError(
                f"concept {self.name!r} has {len(self.scale)} scales, latent_image is a batch of {batch}: connect the "
                "latent output of SEGA Sweep to the sampler"
            )

    def for_run(self, model_sampling: Any) -> Concept:
        """The concept in the model's own noise levels."""
        window = self.whole_window.in_sigmas(model_sampling.percent_to_sigma)
        return Concept(self.total_scale, self.threshold, window)


def restrictions_in(options: dict[str, Any]) -> list[str]:
    """The names of what limits a conditioning, without those whose value limits nothing."""
    whole = (("strength", 1.0), ("mask_strength", 1.0), ("start_percent", 0.0), ("end_percent", 1.0))
    return [key for key in RESTRICTIONS if key in options and (key, options[key]) not in whole]


def chain(concepts: tuple[ConceptInput, ...] | None, concept: ConceptInput) -> tuple[ConceptInput, ...]:
    """Append a concept to those before it."""
    result = (*(concepts or ()), concept)
    if len(result) > MAX_CONCEPTS:
        raise ValueError(
            f"{len(result)} concepts are chained; at most {MAX_CONCEPTS} can act in one run. Remove some SEGA Concept "
            "nodes"
        )
    return result
