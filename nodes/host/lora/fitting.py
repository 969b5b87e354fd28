"""Which layers of a model a LoRA fits: by the host's own names, then by what a name ends in, checked before anything
runs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.lora

from ..files.names import short
from ..page.messages import Message, joined, message
from . import contents, naming
from .adapters import misfit, resizes, tensors
from .contents import Contents
from .shapes import INSTEAD, class_without_weight, foreign, logical_shapes, with_all_names
from .wan_names import diffusers_names

logger = logging.getLogger("semantic_steering")

MOST_NAMES = 3
LONGEST_KEY = 200  # letters; those of published files are below, and end in what matters
Shapes = Mapping[str, tuple[int, ...]]  # of a network's weights, by name
TWICE = "changes a layer that another of its layers changes already"


@dataclass(frozen=True)
class Layers:
    """A slider's weights, by the weights of the model (and of the text encoder) that they change.

    label: what error texts call it; matched of total: how many of the file's layers fit; text_*: the same of its
    text-encoder half, which needs a CLIP; unused: the file's keys that change nothing, without those of a half that
    waits for a CLIP; resized: what it makes larger, in words; made_for: what else is known about the file; no_weight:
    the class of those of its layers that keep no weight to patch.
    """

    label: str
    model: dict[Any, Any]
    clip: dict[Any, Any]
    matched: int
    total: int
    text_matched: int = 0
    text_total: int = 0
    unused: tuple[str, ...] = ()
    resized: str | None = None
    made_for: str = ""
    no_weight: str | None = None

    @property
    def summary(self) -> Message:
        """'matched 160 of 160 layers', what became of a text-encoder half, and which tensors are not used."""
        said: list[str] = []
        if self.total:
            said.append(message("matched", matched=self.matched, total=self.total))
        if self.text_matched:
            said.append(message("text_matched", matched=self.text_matched, total=self.text_total))
        elif self.text_total:
            said.append(message("text_unused", total=self.text_total))
        if self.unused:
            key = "tensor_unused" if len(self.unused) == 1 else "tensors_unused"
            said.append(message(key, count=len(self.unused), names=some(self.unused)))
        if self.made_for:
            said.append(self.made_for)
        return joined("comma", said)


@dataclass
class _Part:
    """What of a file fits one network. problems: {a layer's name: why a weight of that name cannot take it}."""

    patches: dict[Any, Any] = field(default_factory=dict)
    placed: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


def some(names: Iterable[str]) -> str:
    """The first names of a list, and that there are more."""
    listed = [short(name, LONGEST_KEY) for name in names]
    return ", ".join(listed[:MOST_NAMES]) + (", …" if len(listed) > MOST_NAMES else "")


def fit(model: Any, clip: Any, state: Any, label: str, made_for: str = "") -> Layers:
    """Map a slider onto a MODEL and, if given, a CLIP.

    Raises ValueError if none of its layers fits, if not all of them fit a model that has layers without weights, or if
    it can be read in two ways; what fits any other in part is used and said in the log and the summary.
    """
    file = contents.read(state, label)
    text = [name for name in file.layers if contents.TEXT_ENCODER.search(name)]
    others = [name for name in file.layers if name not in set(text)]
    shapes = logical_shapes(model.model, model.backup)
    table = comfy.lora.model_lora_keys_unet(with_all_names(model.model, shapes), {})
    part, text_part = _fitting(shapes, table, file, others, label, diffusers_names(model, table)), _Part()
    if clip is not None:
        keys = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
        left = [name for name in others if name not in part.placed]
        text_shapes = logical_shapes(clip.patcher.model, clip.patcher.backup)
        text_part = _fitting(text_shapes, keys, file, text + left, label)
        text = [*text, *(name for name in left if name in text_part.placed)]
        others = [name for name in others if name not in text_part.placed]
    unfit = [name for name in others if name not in part.placed]
    if unfit:
        _check_fit(model.model, label, unfit, len(others), part.problems)
    if not others and not text_part.placed:
        reason = f": {text[0]!r} {text_part.problems[text[0]]}" if text[0] in text_part.problems else ""
        raise ValueError(
            f"{label} changes only text encoders ({len(text)} layers), of which none is connected that fits{reason}. "
            "Connect clip, or choose another slider"
        )
    for name in unfit:
        logger.warning("%s: %r %s", label, name, part.problems.get(name, "has no place in this model"))
    waits = set(text) if clip is None else set()
    waiting = {key for key in file.state if contents.END.sub("", key) in waits}
    used = part.used | text_part.used | waiting
    unused = tuple(own for key, own in file.origin.items() if key not in used)
    if unused:
        logger.warning("%s: %d tensors are not used: %s", label, len(unused), ", ".join(unused))
    return Layers(
        label, part.patches, text_part.patches, len(part.placed), len(others), len(text_part.placed), len(text), unused,
        _resized(shapes, part.patches), made_for, class_without_weight(model.model, part.patches),
    )  # fmt: skip


def _check_fit(network: Any, label: str, unfit: list[str], total: int, problems: dict[str, str]) -> None:
    """Refuses a slider of which nothing fits, or not all where a layer of the model may stand for several. That it is
    another family's is said where shapes say so."""
    weightless, other = class_without_weight(network), foreign(network)
    name, problem = next(iter(problems.items()), (unfit[0], "is not the name of a layer of this model"))
    if weightless is not None:
        raise ValueError(
            f"{label}: {len(unfit)} of {total} layers have no place in this model, whose layers of class {weightless} "
            f"have no weight and may stand for several: {name!r} {problem}. A part of a slider is another slider: "
            f"{INSTEAD}"
        )
    if len(unfit) < total:
        return
    if other is not None:
        raise ValueError(
            f"{label} fits no layer of this model (0 of {total}), whose network is a {other} and shows none: {name!r} "
            f"{problem}. {INSTEAD[0].upper()}{INSTEAD[1:]}, or choose a slider for this checkpoint"
        )
    if problems:
        raise ValueError(
            f"{label} fits no layer of this model (0 of {total}): {name!r} {problem}. It was made for another model "
            "family; choose a slider for this checkpoint"
        )
    raise ValueError(
        f"{label}: {total} of {total} layers have no place in this model: {some(unfit)}. Choose a slider whose keys "
        "have this model's names"
    )


def _fitting(
    shapes: Shapes, table: dict[str, Any], file: Contents, names: list[str], label: str, more: Mapping[str, Any] = {}
) -> _Part:
    """The host's patches whose shape is that of their weight. shapes: of the network; table: the host's, {a layer's
    name: weight}; more: other names of the same weights.

    What the host's table maps goes through the host's loader as it is; the rest after its names are read.
    """
    part = _Part()

    def problem(name: str, target: Any) -> str | None:
        patches = file.layers[name]
        main = "weight" if "weight" in patches else "bias"
        return _problem(patches[main], target if main == "weight" else _bias(target), shapes)

    known = {name: problem(name, table[name]) for name in names if name in table}
    placed = {name: table[name] for name in table if known.get(name, "") is None}
    rest = [name for name in names if name not in placed]
    meant, other_shape = {}, {}
    if rest:
        meant, other_shape = naming.meant(
            rest, {**more, **table}, lambda name, target: problem(name, target) is None, placed.values(), label
        )
    for name in rest:
        if name not in meant and (name in known or name in other_shape):
            found = known[name] if name in known else problem(name, other_shape[name])
            part.problems[name] = found or TWICE
    part.placed = placed | meant
    for target, patch in comfy.lora.load_lora(file.state, part.placed, log_missing=False).items():
        if _problem(patch, target, shapes) is None:
            part.patches[target] = patch
    for name, target in part.placed.items():
        if not isinstance(target, str) and "bias" in file.layers[name]:  # the host drops that of a part of a layer
            patch = file.layers[name]["bias"]
            if _problem(patch, _bias(target), shapes) is None:
                part.patches[_bias(target)] = patch
    _note_use(file, part)
    return part


def _note_use(file: Contents, part: _Part) -> None:
    """Which keys of the file the patches consist of, and which of the layers placed are in them: two names may mean
    the same weight, of which the host takes the later one."""
    acting = {id(tensor) for patch in part.patches.values() for tensor in tensors(patch)}
    part.used = {key for key, value in file.state.items() if id(value) in acting}
    layers = {contents.END.sub("", key) for key in part.used}
    for name in part.placed.keys() - layers:
        part.problems.setdefault(name, TWICE)
    part.placed = {name: target for name, target in part.placed.items() if name in layers}
    for name in part.placed:
        adapter = file.layers[name].get("weight")
        if adapter is not None and not isinstance(adapter, tuple) and id(tensors(adapter)[0]) in acting:
            part.used |= {f"{name}.alpha", f"{name}.reshape_weight"}


def _resized(shapes: Shapes, patches: dict[Any, Any]) -> str | None:
    """Which weight a slider makes larger, in words; None for sliders that leave all sizes as they are."""
    for target, patch in patches.items():
        if isinstance(target, str) and resizes(patch, shapes[target]):
            return f"the size of {target!r}, {'x'.join(map(str, shapes[target]))} in this model"
    return None


def _bias(target: Any) -> Any:
    """The bias beside a weight, as a target of the host."""
    if isinstance(target, str):
        return f"{target.removesuffix('.weight')}.bias"
    return (f"{target[0].removesuffix('.weight')}.bias", *target[1:])


def _problem(patch: Any, target: Any, shapes: Shapes) -> str | None:
    """Why a patch cannot be merged into a weight of the model, or a part of it; None where it can."""
    key, offset = (target, None) if isinstance(target, str) else target[:2]
    if key not in shapes:
        return f"changes {key!r}, which this model does not have"
    wanted = list(shapes[key])
    if offset is not None:
        wanted[offset[0]] = offset[2]
    return misfit(patch, tuple(wanted))
