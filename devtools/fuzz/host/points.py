"""Places where a run can be made to fail: counted as it passes them, and one of them with a fault that waits there."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import torch
from comfy.model_management import InterruptProcessingException, interrupt_current_processing
from comfy.patcher_extension import CallbacksMP, WrappersMP
from comfy_execution.utils import get_executing_context


def _cancel() -> None:
    """As /interrupt does: the run goes on until something looks at the flag."""
    interrupt_current_processing(True)


def _raise(make: Callable[[], BaseException]) -> Callable[[], None]:
    def throw() -> None:
        raise make()

    return throw


FAULTS: dict[str, Callable[[], None]] = {
    "cancel": _cancel,
    "interrupt": _raise(InterruptProcessingException),
    "error": _raise(lambda: RuntimeError("made up by dev.py fuzz")),
    "memory": _raise(lambda: comfy.model_management.OOM_EXCEPTION("made up by dev.py fuzz")),
}
# Functions of ComfyUI and torch: owner, attribute, and what the point before each is called.
PLACES = (
    (comfy.model_base.BaseModel, "apply_model", "evaluation"),
    (comfy.utils.ProgressBar, "update_absolute", "progress"),  # of samplers' callbacks and all other loops
    (comfy.model_management, "load_models_gpu", "loading"),
    (comfy.model_patcher.ModelPatcher, "patch_weight_to_device", "patching"),
    (comfy.model_patcher.ModelPatcher, "apply_hooks", "hooks"),
    (torch.nn.functional, "linear", "layer"),
    (comfy.sd.CLIP, "encode_from_tokens_scheduled", "encoding"),
    (comfy.sd.VAE, "encode", "vae"),
    (comfy.sd.VAE, "decode", "vae"),
)
CALLBACKS = (CallbacksMP.ON_LOAD, CallbacksMP.ON_PRE_RUN)


class Points:
    """counts: how often each was passed; nodes: the ids of the nodes that ran then; fault: (point, which time, kind)
    that waits; None once it came."""

    def __init__(self) -> None:
        self.set(None)

    def set(self, fault: tuple[str, int, str] | None) -> None:
        """Begin to count anew. Raises KeyError for a kind that is none of FAULTS."""
        if fault is not None:
            FAULTS[fault[2]]
        self.counts: Counter[str] = Counter()
        self.nodes: defaultdict[str, set[str]] = defaultdict(set)
        self.fault = fault

    def passed(self, point: str) -> None:
        self.counts[point] += 1
        context = get_executing_context()
        if context is not None:
            self.nodes[point].add(context.node_id)
        if self.fault is not None and self.fault[:2] == (point, self.counts[point]):
            kind, self.fault = self.fault[2], None
            FAULTS[kind]()


POINTS = Points()


def place(owner: Any, name: str, point: str) -> None:
    """Have every call of a function pass a point first."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        POINTS.passed(point)
        return function(*args, **kwargs)

    setattr(owner, name, called)


def patched(model: Any, where: str) -> Any:
    """A clone with a patch of every kind that other packs put on a model. Each does nothing but pass its points."""
    model = model.clone()
    for kind in [value for name, value in vars(WrappersMP).items() if name.isupper()]:
        model.add_wrapper_with_key(kind, f"fuzz {where}", _wrapper(f"{where} {kind}"))
    for kind in CALLBACKS:
        model.add_callback_with_key(kind, f"fuzz {where}", functools.partial(_told, f"{where} {kind}"))
    model.set_model_sampler_pre_cfg_function(functools.partial(_given, f"{where} pre_cfg", "conds_out"))
    model.set_model_sampler_post_cfg_function(functools.partial(_given, f"{where} post_cfg", "denoised"))
    model.set_model_attn1_patch(functools.partial(_attention, f"{where} attention"))
    return model


def _wrapper(name: str) -> Callable[..., Any]:
    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        POINTS.passed(f"{name} before")
        result = executor(*args, **kwargs)
        POINTS.passed(f"{name} after")
        return result

    return wrapper


def _told(point: str, *_: Any, **__: Any) -> None:
    POINTS.passed(point)


def _given(point: str, key: str, args: dict[str, Any]) -> Any:
    POINTS.passed(point)
    return args[key]


def _attention(point: str, q: Any, k: Any, v: Any, _: dict[str, Any]) -> Any:
    POINTS.passed(point)
    return q, k, v
