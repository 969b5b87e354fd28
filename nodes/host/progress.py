"""What a running node tells the page: text under the node, and a chance to cancel."""

from __future__ import annotations

from typing import Any

import comfy.model_management
from comfy_execution.utils import get_executing_context


def show_text(text: str) -> None:
    """Text under the node that is being executed; nothing where there is no server or no running node."""
    # ComfyUI's own top-level module, imported late: it starts no server, but it needs one's packages
    from server import PromptServer  # pyright: ignore[reportAttributeAccessIssue]

    server: Any = getattr(PromptServer, "instance", None)
    context = get_executing_context()
    if server is not None and context is not None:
        server.send_progress_text(text, context.node_id)


def stop_if_cancelled() -> None:
    """Raises the host's InterruptProcessingException after Cancel was pressed."""
    comfy.model_management.throw_exception_if_processing_interrupted()
