"""Concept vectors in the host: recorded by SEGA Sampler, written to files, added to other runs without any concept."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import comfy.patcher_extension
import comfy.utils
import folder_paths
import safetensors
import torch
from comfy.cli_args import args as host_arguments
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....guidance_core import at_sigma, resized
from ..conditioning.inherit import check_latent
from ..run.identity import ModelIdentity
from ..run.patches import add_outer_sample

logger = logging.getLogger("semantic_steering")

KEY = "semantic_steering.vectors"
LARGE_ROW = 1 << 20  # bytes
SUFFIX = ".sega.safetensors"
FORMAT, VERSION = "semantic-steering concept vectors", 1
RECORD_AGAIN = "Record them again on this model with SEGA Sampler"
OUTPUT = " [output]"  # how ComfyUI's own names say that a file is in the output folder


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
    def summary(self) -> str:
        names = ", ".join(str(concept.get("name")) for concept in self.concepts) or "no concept"
        sizes = " x ".join(str(size) for size in reversed(self.gamma.shape[3:]))
        what = f"{len(self.sigmas)} noise levels, {self.gamma.shape[1]} picture(s) of {sizes} cells"
        return f"{names}; {what}, seed {self.seed}"

    def check(self) -> None:
        """Raises ValueError, naming what is wrong, for vectors that cannot be added to a run."""
        falling = all(a > b for a, b in itertools.pairwise((math.inf, *self.sigmas, 0.0)))
        for wrong, what in (
            (not self.gamma.is_floating_point(), f"their values are {self.gamma.dtype}, not floating-point numbers"),
            (self.gamma.ndim < 4 or 0 in self.gamma.shape[1:], f"their shape is {list(self.gamma.shape)}"),
            (len(self.gamma) != len(self.sigmas), f"{len(self.gamma)} rows for {len(self.sigmas)} noise levels"),
            (not falling, "their noise levels are not finite, falling numbers above 0"),
            (not all(isinstance(entry, dict) for entry in self.concepts), "what they say of their concepts is no list"),
            (not torch.isfinite(self.gamma).all(), "they hold NaN or infinite values"),
        ):
            if wrong:
                raise ValueError(f"vectors cannot be used: {what}. {RECORD_AGAIN}")

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


def with_vectors(model: Any, vectors: ConceptVectors, scale: float) -> Any:
    """A clone of a MODEL to which scale·γ is added in every run. Raises ValueError for another model's vectors."""
    if not math.isfinite(scale):
        raise ValueError(f"scale is {scale}; it must be a finite number (1 = as recorded)")
    patched = model.clone()
    vectors.check()
    if scale == 0 or vectors.neutral:
        return patched

    def outer_sample(executor: Any, noise: Tensor, latent_image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        guider = executor.class_obj
        shapes = kwargs.get("latent_shapes") or [latent_image.shape]
        vectors.model.check(guider.model_patcher, "the vectors were", RECORD_AGAIN)
        check_latent(guider, shapes)
        predict = _adding(vectors.fitted(torch.Size(shapes[0])), vectors.sigmas, scale)
        comfy.patcher_extension.add_wrapper_with_key(
            WrappersMP.PREDICT_NOISE, KEY, predict, guider.model_options, is_model_options=True
        )
        return executor(noise, latent_image, *args, **kwargs)

    add_outer_sample(patched, KEY, outer_sample, "SEGA Apply Vectors")
    return patched


def _adding(gamma: Tensor, sigmas: tuple[float, ...], scale: float) -> Callable[..., Tensor]:
    """A PREDICT_NOISE wrapper: x0 − σ·scale·γ(σ)."""

    def predict(
        executor: Any, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: Any = None
    ) -> Tensor:
        # All before the model is queued, so that nothing has to wait for it.
        sigma = float(timestep.flatten()[0])
        found = at_sigma(gamma, sigmas, sigma) if sigma > 0 else None
        term = None if found is None else found.to(x.device)
        denoised = executor(x, timestep, model_options or {}, seed)
        return denoised if term is None else denoised - sigma * scale * term

    return predict


def save(vectors: ConceptVectors, filename_prefix: str, extra: Mapping[str, Any]) -> str:
    """Write a *.sega.safetensors file into the output folder; its name relative to it. extra: the workflow and its
    prompt, left out where the host was told to keep them out of files."""
    vectors.check()
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        filename_prefix, folder_paths.get_output_directory()
    )
    workflow = {} if host_arguments.disable_metadata else {key: json.dumps(value) for key, value in extra.items()}
    header = workflow | {
        "format": FORMAT, "version": str(VERSION), "model": json.dumps(asdict(vectors.model)),
        "latent_shape": json.dumps(list(vectors.gamma.shape[1:])), "sigmas": json.dumps(vectors.sigmas),
        "concepts": json.dumps(vectors.concepts), "seed": str(vectors.seed),
    }  # fmt: skip
    file = f"{name}_{counter:05}_{SUFFIX}"
    comfy.utils.save_torch_file({"gamma": vectors.gamma.contiguous()}, str(Path(folder) / file), metadata=header)
    return str(Path(subfolder) / file)


def names() -> list[str]:
    """The vector files of the input and the output folder, as ComfyUI's own file lists name them."""
    found = []
    for folder, ending in ((folder_paths.get_input_directory(), ""), (folder_paths.get_output_directory(), OUTPUT)):
        files, _ = folder_paths.recursive_search(folder)
        found += [f"{file}{ending}" for file in sorted(files) if file.endswith(SUFFIX)]
    return found


def load(name: str) -> ConceptVectors:
    """Read a file that `save` wrote. Raises ValueError, naming the file and what is wrong with it."""
    path = Path(folder_paths.get_annotated_filepath(name))
    if not name.removesuffix(OUTPUT).endswith(SUFFIX):
        raise ValueError(f"file is {name!r}; concept vectors are in files that end in {SUFFIX}")
    if not path.is_file():
        raise ValueError(f"file {name!r} does not exist any more; press R to read the list of files again")
    try:
        tensors, header = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    except (safetensors.SafetensorError, ValueError) as broken:
        raise ValueError(f"file {name!r} is no safetensors file, or not a whole one: {broken}") from broken
    header = header or {}
    if header.get("format") != FORMAT or set(tensors) != {"gamma"}:
        raise ValueError(f"file {name!r} does not hold concept vectors; choose one that SEGA Save Vectors wrote")
    if header.get("version") != str(VERSION):
        raise ValueError(
            f"file {name!r} is of version {header.get('version')}, this pack reads version {VERSION}: update the pack, "
            "or record the vectors again"
        )
    return _read(name, tensors["gamma"], header)


def _read(name: str, gamma: Tensor, header: Mapping[str, str]) -> ConceptVectors:
    try:
        model = ModelIdentity(**json.loads(header["model"]))
        vectors = ConceptVectors(
            gamma, tuple(float(sigma) for sigma in json.loads(header["sigmas"])),
            replace(model, sigma_max=float(model.sigma_max)), tuple(json.loads(header["concepts"])),
            int(header["seed"]),
        )  # fmt: skip
        shape = tuple(json.loads(header["latent_shape"]))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as broken:
        raise ValueError(f"file {name!r}: its header is damaged ({broken!r}). {RECORD_AGAIN}") from broken
    if tuple(gamma.shape[1:]) != shape:
        raise ValueError(
            f"file {name!r}: it holds {list(gamma.shape[1:])}, its header says {list(shape)}. {RECORD_AGAIN}"
        )
    try:
        vectors.check()
    except ValueError as problem:
        raise ValueError(f"file {name!r}: {problem}") from problem
    return vectors


def fingerprint(name: str) -> Any:
    """Differs when the file does; nan (always anew) for one that is gone."""
    path = Path(folder_paths.get_annotated_filepath(name))
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else float("nan")
