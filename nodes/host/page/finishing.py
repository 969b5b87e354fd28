"""The page's own stop: end what a node does and go on with what it has, where the host's Cancel ends the whole prompt.

web/training.js posts the id of the node; the node asks between its steps.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from comfy_execution.utils import get_executing_context

ROUTE = "/semantic-steering/finish"
logger = logging.getLogger("semantic_steering")

_running: dict[str, bool] = {}  # {id of a node that can be finished: whether it was asked to}


@contextlib.contextmanager
def finishable() -> Iterator[Callable[[], bool]]:
    """Within this, whether the page has asked the node that is being executed to finish."""
    context = get_executing_context()
    if context is None:
        yield lambda: False
        return
    node = context.node_id
    _running[node] = False
    try:
        yield lambda: _running[node]
    finally:
        del _running[node]


def finish(node: str) -> bool:
    """Whether there is such a node to finish."""
    if node not in _running:
        return False
    _running[node] = True
    return True


def serve() -> None:
    """Answer the page; nothing without a server."""
    from aiohttp import web
    from server import PromptServer  # pyright: ignore[reportAttributeAccessIssue]

    server = getattr(PromptServer, "instance", None)
    if server is None:
        return

    @server.routes.post(ROUTE)
    async def asked(request: Any) -> Any:
        try:
            node = (await request.json())["node"]
        except (ValueError, KeyError, TypeError):
            node = None
        if not isinstance(node, str):
            return web.json_response({"error": "node must be the id of a node, as text"}, status=400)
        if not finish(node):
            return web.json_response({"error": "this node is not training"}, status=404)
        return web.json_response({})
