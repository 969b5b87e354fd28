"""How a patch joins the runs of a model, and the register of what a model can carry.

A patch states itself once, in its own file, by `declare`: what it is called, whether it acts in a part of a run only,
what it adds to a run's conditionings, which uses refuse it and why. Refusals, memory estimates (batched_call.py) and
the table in docs/compatibility.md read that statement; no other file knows of the patch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from comfy.patcher_extension import CallbacksMP, WrappersMP

PREFIX = "semantic_steering."
ALTERNATIVE = "+"  # in the key of a conditioning that is evaluated in another one's place, never beside it


class Use(Enum):
    """What people do with a model, or where they put it, that not every patch can be part of."""

    INVERSION = "DDIM Invert"
    MASK = "DiffEdit Mask"
    TRAINING = "a training"
    TWO_MODELS = "Dual Model CFG Guider"


@dataclass(frozen=True)
class Patch:
    """What a patch says of itself.

    key: of its wrappers and, followed by a dot, of the conditionings that it puts into a run; name: in words, as after
    "model already carries"; nodes: that make it; windowed: whether it acts in a part of the run only, which a later
    decode would not undo; conditionings: what it adds to a run's, for the reader ("" for none); refused: {use: why, and
    what to do}, beside what follows from `windowed`.
    """

    key: str
    name: str
    nodes: str
    windowed: bool
    conditionings: str = ""
    refused: Mapping[Use, str] = field(default_factory=dict)

    def refusal(self, use: Use) -> str | None:
        """Why a use refuses the patch, None where it does not."""
        if use in (Use.INVERSION, Use.MASK, Use.TRAINING):
            return "acts in a part of the run" if self.windowed else None
        return self.refused.get(use)


REGISTER: dict[str, Patch] = {}  # by key
_begun: ContextVar[tuple[Any, ...]] = ContextVar("semantic_steering.begun", default=())


class OfOneRun:
    """State of one run whose methods stand in model_options. Packs copy these options in depth, with everything that a
    bound method drags along (guider and model); the copy has the same state."""

    def __deepcopy__(self, memo: dict) -> OfOneRun:
        return self


def declare(patch: Patch) -> Patch:
    """Enter a patch into the register."""
    assert patch.key.startswith(PREFIX) and patch.key not in REGISTER, patch.key
    REGISTER[patch.key] = patch
    return patch


def carried(model: Any) -> list[Patch]:
    """The patches that act in every run of a MODEL."""
    wrappers = model.wrappers.get(WrappersMP.OUTER_SAMPLE, {})
    return [patch for key, patch in REGISTER.items() if wrappers.get(key)]


def added_conditionings(conds: Mapping[str, Any]) -> int:
    """How many conditionings the pack has put into a run, beside the guider's own, that can be evaluated at once."""
    return sum(key.startswith(f"{patch}.") for key in conds if ALTERNATIVE not in key for patch in REGISTER)


def check_unsteered(model: Any, use: Use) -> None:
    """Raises ValueError for a model that carries what the use refuses."""
    for patch in carried(model):
        why = patch.refusal(use)
        if why is not None:
            raise ValueError(
                f"model already carries {patch.name}, which {why}: {use.value} needs the unsteered model. Connect the "
                f"model from before {patch.nodes}"
            )


def check_one_model(guider: Any, patch: Patch) -> None:
    """Raises ValueError for a guider that runs two models, where the patch refuses that."""
    why = patch.refusal(Use.TWO_MODELS)
    if why is not None and getattr(guider, "uncond_model_patcher", None) is not None:
        raise ValueError(f"{patch.name} cannot act in a {Use.TWO_MODELS.value}: {why}")


def add_outer_sample(patched: Any, patch: Patch, outer_sample: Callable[..., Any]) -> None:
    """Wrap every run of a MODEL by `outer_sample`.

    The host calls the wrappers of a guider's own model only. As the second model of a guider (model_negative of the
    Dual Model CFG Guider) the patch would do nothing without a word: there the run is refused with a ValueError.
    """

    def begin(executor: Any, *args: Any, **kwargs: Any) -> Any:
        token = _begun.set((*_begun.get(), executor.class_obj))
        try:
            return outer_sample(executor, *args, **kwargs)
        finally:
            _begun.reset(token)

    def check(patcher: Any) -> None:
        # The guider's own as it is now: a wrapper of another pack may have put a clone there.
        own = any(guider.model_patcher is patcher for guider in _begun.get())
        if not patcher.is_multigpu_base_clone and not own:
            raise ValueError(
                f"{patch.name} cannot act on a guider's second model (model_negative of the {Use.TWO_MODELS.value}): "
                "connect the model from before it there"
            )

    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, patch.key, begin)
    patched.add_callback_with_key(CallbacksMP.ON_PRE_RUN, patch.key, check)
