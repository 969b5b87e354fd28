"""What a running node tells the page: text and pictures under a node, and a chance to cancel."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import comfy.model_management
from comfy.cli_args import LatentPreviewMethod
from comfy.cli_args import args as host_arguments
from comfy_execution.utils import get_executing_context
from PIL import Image
from torch import Tensor

from .messages import Message


def own_id(node: Any) -> str | None:
    """The id of a node class that asks for its unique_id; None when it is called directly."""
    return node.hidden.unique_id if node.hidden else None


def is_linked(node: Any, slot: int) -> bool:
    """Whether another node of the prompt takes an output of a node class that asks for prompt and unique_id; True where
    that cannot be told: called directly, or made by another node while the prompt runs."""
    hidden = node.hidden
    if hidden is None or hidden.prompt is None or hidden.unique_id not in hidden.prompt:
        return True
    link = [hidden.unique_id, slot]
    return any(value == link for entry in hidden.prompt.values() for value in entry["inputs"].values())


def _running() -> tuple[Any, Any]:
    """The server and the context of the node that is being executed; both None where there is no server, no running
    prompt, or none that a page sent: the host would give its messages to every page, whatever graph is open there."""
    # ComfyUI's own top-level module, imported late: it starts no server, but it needs one's packages
    from server import PromptServer  # pyright: ignore[reportAttributeAccessIssue]

    server, context = getattr(PromptServer, "instance", None), get_executing_context()
    return (None, None) if server is None or context is None or server.client_id is None else (server, context)


def show_text(text: str, node: str | None = None, passing: bool = False) -> None:
    """Text under a node of the page, by default the one that is being executed; nothing where no page
    sent the prompt. web/report.js shows it and keeps it. passing: progress, which the next text replaces."""
    server, context = _running()
    if server is None:
        return
    told = {
        "node": node or context.node_id,
        "runner": context.node_id,
        "prompt": context.prompt_id,
        "text": text.data if isinstance(text, Message) else text,
        "passing": passing,
    }
    server.send_sync("semantic-steering.text", told, server.client_id)


def show_preview(picture: Image.Image, node: str) -> None:
    """A picture under a node of the page while another one runs; nothing where no page sent the prompt, or it cannot
    show one. Whatever the host's own live previews are set to: this one was asked for."""
    from comfy_api import feature_flags
    from protocol import BinaryEventTypes  # pyright: ignore[reportMissingImports]

    server, context = _running()
    if server is None:
        return
    if not feature_flags.supports_feature(server.sockets_metadata, server.client_id, "supports_preview_metadata"):
        return
    about = {"node_id": node, "display_node_id": node, "real_node_id": node, "prompt_id": context.prompt_id}
    server.send_sync(BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA, (("JPEG", picture, None), about), server.client_id)


def show_heat(picture: Callable[[], Tensor]) -> None:
    """The heat map so far, [H, W, 3], made only if it is shown: by web/diffedit_mask.js under the node that is being
    executed; nothing where no page sent the prompt, or the user wants no live previews. Not the host's own preview:
    that stays beside the node's result until the next run."""
    server, context = _running()
    if server is None or host_arguments.preview_method is LatentPreviewMethod.NoPreviews:
        return
    image = Image.fromarray((picture() * 255).round().byte().numpy())
    image.thumbnail((host_arguments.preview_size,) * 2)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=90)
    address = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
    server.send_sync("semantic-steering.heat", {"node": context.node_id, "picture": address}, server.client_id)


def stop_if_cancelled() -> None:
    """Raises the host's InterruptProcessingException after Cancel was pressed."""
    comfy.model_management.throw_exception_if_processing_interrupted()
