"""Concept vectors: what travels over a SEGA_VECTORS socket, and how a run records them."""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....guidance_core import resized
from ..conditioning.concept import MAX_CONCEPTS
from ..files.names import short
from ..page.messages import Message, message
from ..run.identity import ModelIdentity

logger = logging.getLogger("semantic_steering")

LARGE_ROW = 1 << 20  # bytes
LARGEST_VALUE = 1e4  # in units of the noise estimate, about 1 each: 16 concepts at scale 20 stay below
RECORD_AGAIN = "Record them again on this model with SEGA Sampler"


@dataclass(frozen=True)
class ConceptVectors:
    """Σγ of a run, in noise-estimate units: gamma [T, B, C, ...] float32 on the CPU, a row for each of the falling
    sigmas, at which the model was evaluated. concepts: what they were made of, for the reader; seed: of the noise."""

    gamma: Tensor
    sigmas: tuple[float, ...]
    model: ModelIdentity
    concepts: tuple[dict[str, Any], ...]
    seed: int

    @property
    def neutral(self) -> bool:
        return not bool(self.gamma.any())

    @property
    def summary(self) -> Message:
        listed = [short(concept.get("name")) for concept in self.concepts[:MAX_CONCEPTS]]
        names = ", ".join(listed) or message("no_concept_recorded")
        sizes = " x ".join(str(size) for size in reversed(self.gamma.shape[3:]))
        return message(
            "vectors", names=names, levels=len(self.sigmas), pictures=self.gamma.shape[1], size=sizes, seed=self.seed
        )

    def check(self) -> None:
        """Raises ValueError, naming what is wrong, for vectors that cannot be added to a run."""
        for what in self._faults():
            raise ValueError(f"vectors cannot be used: {what}. {RECORD_AGAIN}")

    def _faults(self) -> Iterator[str]:
        """What is wrong, the first of which may leave no sense to the others."""
        if not self.gamma.is_floating_point():
            yield f"their values are {self.gamma.dtype}, not floating-point numbers"
        if self.gamma.ndim < 4 or 0 in self.gamma.shape[1:]:
            yield f"their shape is {list(self.gamma.shape)}"
        if len(self.gamma) != len(self.sigmas):
            yield f"{len(self.gamma)} rows for {len(self.sigmas)} noise levels"
        if not all(a > b for a, b in itertools.pairwise((math.inf, *self.sigmas, 0.0))):
            yield "their noise levels are not finite, falling numbers above 0"
        if not all(isinstance(entry, dict) for entry in self.concepts):
            yield "what they say of their concepts is no list"
        largest = float(self.gamma.abs().max()) if self.gamma.numel() else 0.0
        if not math.isfinite(largest):
            yield "they hold NaN or infinite values"
        if largest > LARGEST_VALUE:
            yield f"they hold values up to {largest:.3g}; those of an edit are below {LARGEST_VALUE:g}"

    def fitted(self, shape: torch.Size) -> Tensor:
        """gamma for a latent [B, C, ...]: of one picture for all of a batch, resized (with a warning) to its size.

        Raises ValueError for another number of channels, dimensions or pictures.
        """
        own = self.gamma.shape[1:]
        if own[1] != shape[1] or len(own) != len(shape):
            raise ValueError(
                f"vectors have the shape {list(own)}, latent_image has {list(shape)}: they are of another model "
                f"family. {RECORD_AGAIN}"
            )
        if own[0] not in (1, shape[0]):
            raise ValueError(
                f"vectors were recorded for a batch of {own[0]}, latent_image is a batch of {shape[0]}: record them "
                "from one picture, or use the same batch size"
            )
        if own[2:] == shape[2:]:
            return self.gamma
        logger.warning(
            "SEGA Apply Vectors: recorded on %s cells, resized to %s: the edit may miss its place",
            list(own[2:]), list(shape[2:]),
        )  # fmt: skip
        return resized(self.gamma, shape[2:])


class Unrecorded:
    """Vectors that no node was connected to when their run was made, so that none were kept (a video's fill a gigabyte
    of ComfyUI's cache). Where one is connected later the run is made once more. record: does that."""

    def __init__(self, record: Callable[[], ConceptVectors]):
        self._record = record

    @functools.cached_property
    def recorded(self) -> ConceptVectors:
        logger.info("SEGA: the vectors were not recorded, so the run is made once more")
        return self._record()


def asked_for(vectors: ConceptVectors | Unrecorded) -> ConceptVectors:
    """What a node gets from its vectors input, recorded now if they were not."""
    return vectors.recorded if isinstance(vectors, Unrecorded) else vectors


class Recorder:
    """Collects what each evaluation of one run adds; read once after it."""

    def __init__(self) -> None:
        self._rows: dict[float, Tensor | None] = {}

    def add(self, sigma: float, gamma: Mapping[int, Tensor]) -> None:
        """One evaluation's γ [B, C, ...] by concept; of a level that comes twice the last one counts."""
        total = functools.reduce(torch.add, gamma.values()) if gamma else None
        # A video's rows would fill the device; a picture's are not worth waiting for.
        self._rows[sigma] = total.cpu() if total is not None and total.nbytes > LARGE_ROW else total

    def result(self, shape: torch.Size) -> tuple[Tensor, tuple[float, ...]]:
        """gamma [T, B, C, ...] of a latent's shape, and the levels, falling."""
        sigmas = tuple(sorted(self._rows, reverse=True))
        gamma = torch.zeros(len(sigmas), *shape)
        for row, sigma in zip(gamma, sigmas, strict=True):
            if (found := self._rows[sigma]) is not None:
                row.copy_(found)
        return gamma, sigmas
