"""Which models can read each other's states and directions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ModelIdentity:
    """Whose states these are. Format, type and σ_max have to agree for them to mean something to another model; the
    shift is kept for the reader: it moves the schedule, not the states."""

    latent_format: str
    sampling: str
    sigma_max: float
    shift: float | None

    @classmethod
    def of(cls, model: Any) -> ModelIdentity:
        sampling = model.get_model_object("model_sampling")
        kind = next(c.__name__ for c in type(sampling).__mro__ if "calculate_denoised" in vars(c))
        shift = getattr(sampling, "shift", None)
        return cls(
            type(model.get_model_object("latent_format")).__name__, kind, float(sampling.sigma_max),
            None if shift is None else float(shift),
        )  # fmt: skip

    def check(self, model: Any, what: str, advice: str) -> None:
        """Raises ValueError, naming what differs, for a model of another latent format, type or σ_max.

        what: whose identity this is ("the inversion was"); advice: what to connect instead.
        """
        other = ModelIdentity.of(model)
        same_range = math.isclose(self.sigma_max, other.sigma_max, rel_tol=1e-4)
        if (self.latent_format, self.sampling) == (other.latent_format, other.sampling) and same_range:
            return
        raise ValueError(
            f"{what} made by another model: {self.latent_format}, {self.sampling}, σ_max {self.sigma_max:g} "
            f"against this model's {other.latent_format}, {other.sampling}, σ_max {other.sigma_max:g}. {advice}"
        )
