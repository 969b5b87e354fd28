"""A ComfyUI pack for tests/server/test_fuzz.py and test_faults.py: nodes with the faults that those are there for."""

import time

import comfy.model_management
import torch
from comfy_api.latest import ComfyExtension, io

from . import own
from .leaving import FaultyModel


class Faulty(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Faulty", category="tests", inputs=[io.String.Input("fault"), io.Int.Input("nonce")],
            outputs=[io.Latent.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, fault, nonce):
        while fault == "hang":
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.05)
        if fault == "host":
            raise KeyError("samples")
        own.work(fault)
        return io.NodeOutput({"samples": torch.full((1, 4, 8, 8), torch.nan if fault == "nan" else 0.0)})


class FaultyPack(ComfyExtension):
    async def get_node_list(self):
        return [Faulty, FaultyModel]


async def comfy_entrypoint():
    return FaultyPack()
