"""Files of concept vectors: *.sega.safetensors, written to the output folder, read from there and the input folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args as host_arguments
from torch import Tensor

from ..files import tensors
from ..files.names import check_read, check_write, no_file, outside, shown, unreadable
from ..run.identity import ModelIdentity
from .vectors import RECORD_AGAIN, ConceptVectors

SUFFIX = ".sega.safetensors"
FORMAT, VERSION = "semantic-steering concept vectors", 1
NO_FILE = "no file yet"  # in the list, where there is none
FOLDERS = "input and output folders"
OUTPUT = " [output]"  # how ComfyUI's own names say that a file is in the output folder


def save(vectors: ConceptVectors, filename_prefix: str, extra: Mapping[str, Any]) -> str:
    """Write a *.sega.safetensors file into the output folder; its name relative to it. extra: the workflow and its
    prompt, left out where the host was told to keep them out of files."""
    vectors.check()
    filename_prefix = check_write(filename_prefix, "filename_prefix")
    try:
        found = folder_paths.get_save_image_path(filename_prefix, folder_paths.get_output_directory())
    except Exception as refused:  # the host's own class for a place outside; OSError for a folder that it cannot make
        reason = getattr(refused, "strerror", None) or str(refused).partition("\n")[0]
        raise ValueError(
            f"filename_prefix {shown(filename_prefix)} leads outside the output folder, or to a folder that cannot be "
            f"made ({reason})"
        ) from refused
    workflow = {} if host_arguments.disable_metadata else {key: json.dumps(value) for key, value in extra.items()}
    header = workflow | {
        "format": FORMAT, "version": str(VERSION), "model": json.dumps(asdict(vectors.model)),
        "latent_shape": json.dumps(list(vectors.gamma.shape[1:])), "sigmas": json.dumps(vectors.sigmas),
        "concepts": json.dumps(vectors.concepts), "seed": str(vectors.seed),
    }  # fmt: skip
    folder, name, counter, subfolder, _ = found
    tensors.remove_abandoned(folder)
    while True:
        file = f"{name}_{counter:05}_{SUFFIX}"
        try:
            tensors.write(Path(folder) / file, {"gamma": vectors.gamma}, header)
            return str(Path(subfolder) / file)
        except FileExistsError:  # another server has counted the same files
            counter += 1


def names() -> list[str]:
    """The vector files of the input and the output folder, as ComfyUI's own file lists name them."""
    found = []
    for folder, ending in ((folder_paths.get_input_directory(), ""), (folder_paths.get_output_directory(), OUTPUT)):
        files = (os.path.relpath(file, folder) for file in _below(folder))
        found += [f"{file}{ending}" for file in sorted(files)]
    return found


# By folder: when it was changed last, its own folders and its vector files. The page asks for the list whenever it
# reads the nodes' inputs, and an output folder may hold many thousands of pictures.
_listed: dict[str, tuple[int, list[str], list[str]]] = {}


def _below(folder: str) -> Iterator[str]:
    """The vector files in a folder and those below it, however deep; a folder is read again once something in it came
    or went. Links to folders are left out: what is behind them leads outside, or in a circle."""
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            changed = os.stat(folder).st_mtime_ns
            if folder not in _listed or _listed[folder][0] != changed:
                with os.scandir(folder) as entries:
                    inside = [*entries]
                below = [entry.path for entry in inside if entry.is_dir(follow_symlinks=False)]
                files = [entry.path for entry in inside if entry.path.endswith(SUFFIX) and entry.is_file()]
                _listed[folder] = changed, below, files
        except OSError:  # gone meanwhile, or not ours to read: the page needs the others
            continue
        waiting += _listed[folder][1]
        yield from _listed[folder][2]


def load(name: str) -> ConceptVectors:
    """Read a file that `save` wrote. Raises ValueError, naming the file and what is wrong with it."""
    if name == NO_FILE:
        raise ValueError("file: there are no concept vectors yet; save some with SEGA Save Vectors, then press R")
    path = _path(name)
    if not name.removesuffix(OUTPUT).endswith(SUFFIX):
        raise ValueError(f"file is {shown(name)}; concept vectors are in files that end in {SUFFIX}")
    if not os.path.isfile(path):
        raise no_file(name, "file", path)
    try:
        header, found = tensors.metadata(path), tensors.read(path)
        if header.get("format") != FORMAT or set(found) != {"gamma"}:
            raise ValueError("it does not hold concept vectors; choose one that SEGA Save Vectors wrote")
    except OSError as problem:
        raise unreadable(name, "file", problem) from problem
    except ValueError as broken:
        raise ValueError(f"file {name!r}: {broken}") from broken
    if header.get("version") != str(VERSION):
        raise ValueError(
            f"file {name!r} is of version {header.get('version')}, this pack reads version {VERSION}: update the pack, "
            "or record the vectors again"
        )
    return _read(name, found["gamma"], header)


def _path(name: str) -> str:
    check_read(name, "file", FOLDERS)
    try:
        return folder_paths.get_annotated_filepath(name)
    except ValueError as refused:
        raise outside(name, "file", FOLDERS) from refused


def _read(name: str, gamma: Tensor, header: Mapping[str, str]) -> ConceptVectors:
    try:
        model = ModelIdentity(**json.loads(header["model"]))
        vectors = ConceptVectors(
            gamma.float() if gamma.is_floating_point() else gamma,
            tuple(float(sigma) for sigma in json.loads(header["sigmas"])),
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
    path = _path(name)
    return tensors.fingerprint(path) if os.path.isfile(path) else float("nan")
