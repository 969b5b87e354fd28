"""InstructPix2Pix: an instruction and a picture, each with a scale of its own."""

from __future__ import annotations

import math

import torch
from comfy_api.latest import io

from .host.conditioning.checks import check_encoded
from .host.editing.instruct_pix2pix import TwoScaleGuider, check_encodable, check_model, encode
from .host.page.previews import in_colour
from .host.page.progress import own_id
from .host.sega.patch import patch_model
from .host.sega.settings import Page, SEGASettings
from .sega import Concepts

CATEGORY = "semantic steering/InstructPix2Pix"


class InstructPix2PixGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructPix2PixGuider",
            display_name="InstructPix2Pix Guider",
            category=CATEGORY,
            description="Changes a picture as an instruction says, with an InstructPix2Pix checkpoint: one scale for "
            "the text, one for the picture, and SEGA concepts as dials. For SamplerCustomAdvanced.",
            search_aliases=[
                "InstructPix2Pix", "ip2p", "instruct pix2pix", "edit instruction", "edit photo", "image guidance",
                "image cfg", "dual cfg", "CosXL Edit", "image editing", "edit image",
                "指令编辑", "画像編集", "이미지 편집",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip="An InstructPix2Pix checkpoint, such as instruct-pix2pix-00-22000 or CosXL Edit."
                ),
                io.Conditioning.Input(
                    "positive", tooltip="What to do: 'make it winter', 'give him glasses'. Not what the picture shows."
                ),
                io.Conditioning.Input("negative", tooltip="What to keep out of the result; usually an empty text."),
                io.Vae.Input("vae", tooltip="The VAE of the same checkpoint."),
                io.Image.Input(
                    "pixels",
                    tooltip="The picture to change, or a batch. Sides that are not multiples of 8 are cropped evenly.",
                ),
                io.Float.Input(
                    "text_scale", default=7.5, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="How strongly to follow the instruction (s_T). The paper uses 5 to 10. Too low: nothing "
                    "changes. Too high: burnt colours, and more changes than was asked.",
                ),
                io.Float.Input(
                    "image_scale", default=1.5, min=0.0, max=100.0, step=0.05, round=0.001,
                    tooltip="How strongly to keep the picture (s_I). The paper uses 1 to 1.5. Too low: another "
                    "picture. Too high: nothing changes, then hard contrasts. At 1 a step is a third cheaper.",
                ),
                Concepts.Input(
                    "concepts", optional=True,
                    tooltip="From SEGA Concept: dials on top of the instruction. Unconnected: plain InstructPix2Pix.",
                ),
            ],
            outputs=[
                io.Guider.Output(display_name="guider", tooltip="For SamplerCustomAdvanced."),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="An empty latent of the picture's size and batch, for the sampler's latent_image.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # it keeps its id: the host's cache would hand it to another node of the same inputs
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, negative, vae, pixels, text_scale=7.5, image_scale=1.5, concepts=None
    ) -> io.NodeOutput:
        for name, value, usual in (("text_scale", text_scale, "5 to 10"), ("image_scale", image_scale, "1 to 1.5")):
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} is {value}; it must be a number of 0 or more (usually {usual})")
        check_model(model)
        check_encoded(positive=positive, negative=negative)
        pixels = in_colour(pixels, "pixels")
        check_encodable(model, vae, pixels)
        steered = patch_model(model, concepts, SEGASettings(), page=Page(own_id(cls)))
        image = encode(vae, pixels)
        guider = TwoScaleGuider(steered, positive, negative, image, text_scale, image_scale, own_id(cls))
        return io.NodeOutput(guider, {"samples": torch.zeros_like(image)})


NODES = [InstructPix2PixGuider]
