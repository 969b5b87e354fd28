"""A ComfyUI pack of its own (no nodes): lets CheckpointLoaderSimple load the portraits checkpoint.

It is laboratory equipment, not part of the product: `dev.py` puts it beside the pack.
"""

from __future__ import annotations

import comfy.supported_models
from comfy_api.latest import ComfyExtension

from .portraits_model import Portraits

if all(model.__name__ != Portraits.__name__ for model in comfy.supported_models.models):
    comfy.supported_models.models.append(Portraits)


class PortraitsHost(ComfyExtension):
    async def get_node_list(self):
        return []


async def comfy_entrypoint():
    return PortraitsHost()
