"""ComfyUI's door to the pack."""

try:
    from comfy_api.latest import ComfyExtension, io
except ImportError as problem:  # ComfyUI shows a pack's error as it is
    raise ImportError(
        f"Semantic Steering needs ComfyUI 0.30.0 or newer ({problem}; ComfyUI 0.3.48 was the first with "
        "comfy_api.latest): update ComfyUI"
    ) from problem

WEB_DIRECTORY = "./web"


class SemanticSteering(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        from .nodes import NODES

        return NODES


async def comfy_entrypoint() -> SemanticSteering:
    return SemanticSteering()
