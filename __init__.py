"""ComfyUI's door to the pack."""

from comfy_api.latest import ComfyExtension, io

WEB_DIRECTORY = "./web"


class SemanticSteering(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        from .nodes import NODES

        return NODES


async def comfy_entrypoint() -> SemanticSteering:
    return SemanticSteering()
