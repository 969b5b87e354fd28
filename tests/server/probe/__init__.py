"""A ComfyUI pack for the server tests: counts the model's calls, and makes input that no stock node makes."""

import comfy.model_base
import comfy.utils
import folder_paths
import torch
from aiohttp import web
from comfy_api.latest import ComfyExtension, io
from server import PromptServer

calls = 0
apply_model = comfy.model_base.BaseModel.apply_model


def counted(self, *args, **kwargs):
    global calls
    calls += 1
    return apply_model(self, *args, **kwargs)


comfy.model_base.BaseModel.apply_model = counted


@PromptServer.instance.routes.get("/probe/calls")
async def report(request):
    return web.json_response(calls)


class ProbeConditioning(io.ComfyNode):
    """A conditioning as the text encoder of a model family with this width would make it."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeConditioning",
            category="tests",
            inputs=[io.Int.Input("width", default=768)],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, width):
        return io.NodeOutput([[torch.ones(1, 77, width), {}]])


class ProbeLatent(io.ComfyNode):
    """A latent that is not empty, with any number of channels."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeLatent",
            category="tests",
            inputs=[io.Int.Input("channels", default=16)],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, channels):
        return io.NodeOutput({"samples": torch.ones(1, channels, 8, 8)})


class ProbeSlider(io.ComfyNode):
    """A LORA_MODEL, as a training makes it."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeSlider",
            category="tests",
            inputs=[io.String.Input("file")],
            outputs=[io.Custom("LORA_MODEL").Output()],
        )

    @classmethod
    def execute(cls, file):
        return io.NodeOutput(comfy.utils.load_torch_file(folder_paths.get_full_path("loras", file)))


class ProbeText(io.ComfyNode):
    """A text by an output without a type, whose links ComfyUI compares with no list."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeText", category="tests", inputs=[io.String.Input("text")], outputs=[io.AnyType.Output()]
        )

    @classmethod
    def execute(cls, text):
        return io.NodeOutput(text)


class Probe(ComfyExtension):
    async def get_node_list(self):
        return [ProbeConditioning, ProbeLatent, ProbeSlider, ProbeText]


async def comfy_entrypoint():
    return Probe()
