"""Files of nodes load each by itself: where this ComfyUI lacks what one needs, the log says so and the others load."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from .given import guarded

logger = logging.getLogger("semantic_steering")

OLDEST = "0.30.0"  # the oldest ComfyUI on which all of the pack's tests pass
# The release that brought what the errors of older ones name.
SINCE = {
    "get_executing_context": "0.3.45",
    "search_aliases": "0.11.0",
    "weight_adapter.bypass": "0.11.0",
    "has_intermediate_output": "0.19.0",
    "model_prefetch": "0.21.0",
}


@contextlib.contextmanager
def reported(nodes: str) -> Iterator[None]:
    """Around the import of a file of nodes. nodes: what a user loses without it."""
    try:
        yield
    except (ImportError, AttributeError, TypeError) as problem:
        name = next((name for name in SINCE if name in str(problem)), None)
        has_it = f"ComfyUI {OLDEST} has it" if name is None else f"ComfyUI {SINCE[name]} was the first with {name}"
        logger.error(
            "Semantic Steering: %s cannot be loaded, this ComfyUI lacks something (%s). %s; all of the pack's nodes "
            "were tested from ComfyUI %s on, so update ComfyUI. Nodes that do without it are loaded.",
            nodes, problem, has_it, OLDEST, exc_info=True,
        )  # fmt: skip


def usable(nodes: list[Any]) -> list[Any]:
    """The nodes, after their schemas were made: an older ComfyUI may not know a word in them. They look at what they
    are given before they work."""
    return [guarded(node, node.define_schema().inputs) for node in nodes]
