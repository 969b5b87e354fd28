"""Patches that act through the runs of their model's guider."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from comfy.patcher_extension import CallbacksMP, WrappersMP

_begun: ContextVar[tuple[Any, ...]] = ContextVar("semantic_steering.begun", default=())


def add_outer_sample(patched: Any, key: str, outer_sample: Callable[..., Any], name: str) -> None:
    """Wrap every run of a MODEL by `outer_sample`; name: of the patch, for people.

    The host calls the wrappers of a guider's own model only. As the second model of a guider (model_negative of the
    Dual Model CFG Guider) the patch would do nothing without a word: there the run is refused with a ValueError.
    """

    def begin(executor: Any, *args: Any, **kwargs: Any) -> Any:
        token = _begun.set((*_begun.get(), executor.class_obj.model_patcher))
        try:
            return outer_sample(executor, *args, **kwargs)
        finally:
            _begun.reset(token)

    def check(patcher: Any) -> None:
        if not patcher.is_multigpu_base_clone and not any(own is patcher for own in _begun.get()):
            raise ValueError(
                f"{name} cannot act on a guider's second model (model_negative of the Dual Model CFG Guider): connect "
                "the model from before it there"
            )

    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, key, begin)
    patched.add_callback_with_key(CallbacksMP.ON_PRE_RUN, key, check)
