"""Models that no stock node gives: one that other packs have patched, and a small edit model."""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch
from comfy_api.latest import io

from .points import patched

WIDTH = 32  # of the demo encoder's text features
# Of InstructPix2Pix's class, which takes a picture beside the latent, in one resolution with one block.
EDIT = {
    "image_size": 32, "in_channels": 8, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1],
    "channel_mult": [1], "transformer_depth": [1], "transformer_depth_output": [1, 1], "transformer_depth_middle": -1,
    "context_dim": WIDTH, "use_spatial_transformer": True, "legacy": False, "use_linear_in_transformer": False,
}  # fmt: skip


class FuzzModel(io.ComfyNode):
    """A model as other packs patch it, in every way that the host offers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FuzzModel", category="fuzz", outputs=[io.Model.Output()],
            inputs=[io.Model.Input("model"), io.String.Input("where")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, where) -> io.NodeOutput:
        return io.NodeOutput(patched(model, where))


class FuzzEditModel(io.ComfyNode):
    """An edit model with random weights, for the texts of the demo's encoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(node_id="FuzzEditModel", category="fuzz", inputs=[], outputs=[io.Model.Output()])

    @classmethod
    def execute(cls) -> io.NodeOutput:
        config = comfy.supported_models.SD15_instructpix2pix(EDIT)
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({})
        generator = torch.Generator().manual_seed(0)
        for parameter in model.diffusion_model.parameters():
            size = 1 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
            parameter.data = torch.randn(parameter.shape, generator=generator) * size
        device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
        return io.NodeOutput(comfy.model_patcher.ModelPatcher(model, device, offload))
