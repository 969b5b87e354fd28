"""InstructPix2Pix inside the host: a guider with two scales, and the picture as its models take it."""

from __future__ import annotations

import math
from typing import Any

import comfy.model_base
import comfy.samplers
import node_helpers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....guidance_core import add_image_guidance
from ..conditioning.concept import Conditioning
from ..page import no_numbers
from ..page.messages import input_name
from ..run.batched_call import COUNT_KEY, BatchedCall, count_added
from ..run.patches import PREFIX, Patch, declare

GUIDER = declare(
    Patch(
        f"{PREFIX}instruct_pix2pix",
        "InstructPix2Pix Guider",
        "InstructPix2Pix Guider",
        windowed=False,
        conditionings="one, the negative with an empty picture; none at an image scale of 1",
    )
)
WITHOUT_IMAGE = f"{GUIDER.key}.without_image"


class TwoScaleGuider(comfy.samplers.CFGGuider):
    """The host's guider with the picture on positive and negative, and guidance by the picture added to its own.

    `cfg` is the text scale. The third conditioning, the negative with a picture of zeros, is evaluated in the same
    batched call. At an image scale of 1 it has no weight: then this is the host's guider, bit for bit. node: the id of
    the node that says where a run ended in no numbers.
    """

    def __init__(
        self, model: Any, positive: Conditioning, negative: Conditioning, image: Tensor, text_scale: float,
        image_scale: float, node: str | None = None,
    ):  # fmt: skip
        self.image_scale, self.node = image_scale, node
        self.third = not math.isclose(image_scale, 1.0)
        if self.third:
            model = model.clone()
            model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, COUNT_KEY, count_added)
        super().__init__(model)
        self.set_conds(_with_image(positive, image), _with_image(negative, image))
        if self.third:
            self.inner_set_conds({WITHOUT_IMAGE: _with_image(negative, torch.zeros_like(image))})
        self.set_cfg(text_scale)

    def outer_sample(self, *args: Any, **kwargs: Any) -> Tensor:
        samples = super().outer_sample(*args, **kwargs)
        settings = [input_name("InstructPix2PixGuider", name) for name in ("text_scale", "image_scale")]
        no_numbers.warn(samples, settings, "InstructPix2Pix Guider", self.node)
        return samples

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: int | None = None
    ) -> Tensor:
        model_options = model_options or {}
        if not self.third:
            return super().predict_noise(x, timestep, model_options, seed)
        call = ThreeEstimates(self.conds["negative"], self.conds[WITHOUT_IMAGE], model_options)
        guided = super().predict_noise(x, timestep, call.within(model_options), seed)
        return add_image_guidance(guided, call.negative, call.without_image, self.image_scale)


class ThreeEstimates(BatchedCall):
    """Adds the third conditioning (and the negative, which the host leaves out at a text scale of 1), keeps both
    estimates, and returns the host its own two.

    SEGA adds its concepts to the same call and finds positive at index 0 and negative, with the picture, at 1.
    """

    negative: Tensor
    without_image: Tensor

    def __init__(self, negative: list[dict], without_image: list[dict], model_options: dict):
        super().__init__(model_options)
        self.conds = negative, without_image

    def __call__(self, args: dict) -> list[Tensor]:
        negative, without_image = self.conds
        own, (self.without_image,) = self.evaluate(args, [args["conds"][0], negative], [(without_image, 1)])
        self.negative = own[1].clone()  # some packs' functions write into what they are given
        return own


def _with_image(conditioning: Conditioning, image: Tensor) -> Conditioning:
    return node_helpers.conditioning_set_values(conditioning, {"concat_latent_image": image})


def check_model(model: Any) -> None:
    """Raises ValueError for a model that does not take a picture beside its latent as InstructPix2Pix does."""
    if not isinstance(model.model, comfy.model_base.IP2P):
        raise ValueError(
            f"model is {type(model.model).__name__}, which was not trained to follow instructions about a picture; "
            "connect an InstructPix2Pix checkpoint, such as instruct-pix2pix-00-22000 or CosXL Edit"
        )


def check_encodable(model: Any, vae: Any, pixels: Tensor) -> None:
    """Raises ValueError for a VAE that is missing or another family's, and pixels that cannot be encoded."""
    if vae is None or vae.first_stage_model is None:
        raise ValueError("vae is missing: the checkpoint has none; connect a Load VAE")
    channels = model.get_model_object("latent_format").latent_channels
    if vae.latent_channels != channels:
        raise ValueError(
            f"vae makes latents of {vae.latent_channels} channels, this model's have {channels}: it is another model "
            "family's. Connect the VAE of this checkpoint"
        )
    height, width, cell = *pixels.shape[1:3], vae.spacial_compression_encode()
    if min(height, width) < cell:
        raise ValueError(f"pixels is {width}x{height}; at least {cell}x{cell} is needed. Connect a larger picture")
    if not torch.isfinite(pixels).all():
        raise ValueError("pixels holds NaN or infinite values; the picture before it is broken")


@torch.no_grad()
def encode(vae: Any, pixels: Tensor) -> Tensor:
    """The picture [B, H, W, 3] as the VAE's most likely latent, unscaled; the host crops to whole latent cells, evenly
    from both sides. The model's own class scales it where its family wants that (CosXL)."""
    return vae.encode(pixels)
