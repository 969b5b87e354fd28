"""DiffEdit: find where two texts differ in a picture, and change that part only."""

from __future__ import annotations

import logging
import math

from comfy_api.latest import io
from torch import Tensor

from ..guidance_core import binarise, blur_mask, check_mask_settings, grow_mask, heatmap
from .host.conditioning.checks import check_height_and_width
from .host.conditioning.masks import to_pictures
from .host.editing import diffedit as host
from .host.editing.inversion import Inversion
from .host.page.previews import backdrop, fitted_pictures, mask_shown, masked_picture
from .host.page.progress import show_heat
from .host.run.ksampler import picture_size
from .host.run.latents import picture_latent
from .host.run.patches import Use, check_unsteered
from .inversion import CATEGORY, InversionType

logger = logging.getLogger("semantic_steering")

ALIASES = [
    "DiffEdit", "edit photo", "replace object", "add object", "remove object", "image editing", "edit image",
    "图像编辑", "画像編集", "이미지 편집",
]  # fmt: skip


class DiffEditMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffEditMask",
            display_name="DiffEdit Mask",
            category=CATEGORY,
            description="Finds the part of a picture that two texts disagree about: from what is there to what should "
            "be there. No segmentation model, and the object need not exist yet.",
            search_aliases=[
                *ALIASES, "auto mask", "mask from text", "mask by prompt", "mask from prompt", "text to mask",
                "segment", "文字遮罩", "自动遮罩", "自動マスク", "자동 마스크",
            ],
            has_intermediate_output=True,  # shown again after a reload, when the cache has the node's outputs
            inputs=[
                io.Model.Input("model", tooltip="The model whose answers to the two texts are compared, unsteered."),
                io.Conditioning.Input(
                    "source",
                    tooltip="What is in the picture now; what both texts describe stays out of the mask. An empty "
                    "text works too (the paper's case without a reference), but the mask is then less exact.",
                ),
                io.Conditioning.Input("target", tooltip="What should be there: the same text with the change in it."),
                io.Latent.Input("latent_image", tooltip="The picture, from VAE Encode."),
                io.Float.Input(
                    "strength", default=0.5, min=0.0, max=1.0, step=0.01, round=0.001,
                    tooltip="How much noise the two texts are compared at; the paper uses 0.5. Too low: only details "
                    "light up. Too high: the mask loses the picture's shapes. 0 compares nothing and is refused.",
                ),
                io.Float.Input(
                    "threshold", default=0.5, min=0.0, max=1.0, step=0.01, round=0.001,
                    tooltip="Where the heat map is cut; the paper uses 0.5. Lower: a larger mask. Higher: a smaller "
                    "one, which leaves parts of the object unedited.",
                ),
                io.Int.Input(
                    "grow", default=8, min=0, max=512,
                    tooltip="Pixels the mask is widened by. Too much lets the edit touch what is next to it.",
                ),
                io.Int.Input(
                    "blur", default=8, min=0, max=512,
                    tooltip="Pixels over which the mask's edge fades to either side. 0: a hard edge, which may show.",
                ),
                io.Int.Input(
                    "maps", default=10, min=1, max=256, advanced=True,
                    tooltip="Noises that are averaged; the paper uses 10. Fewer is faster and patchier.",
                ),
                io.Float.Input(
                    "clamp", default=3.0, min=0.1, max=100.0, step=0.1, round=0.01, advanced=True,
                    tooltip="Differences over this many times the picture's mean count as that much (the authors: 3). "
                    "Higher: fewer, stronger cells are left. A cell is in the mask when it is over threshold x clamp x "
                    "mean.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, advanced=True,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="The noises. The same seed gives the same mask.",
                ),
                io.Image.Input(
                    "image", optional=True,
                    tooltip="Shown behind the mask on this node. Unconnected: the latent's approximate colours.",
                ),
            ],
            outputs=[
                io.Mask.Output(display_name="mask", tooltip="1 where the picture should change, at picture size."),
                io.Mask.Output(
                    display_name="heatmap",
                    tooltip="How much the two texts disagree, 0 to 1, before threshold, grow and blur.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, source, target, latent_image, strength=0.5, threshold=0.5, grow=8, blur=8, maps=10, clamp=3.0,
        seed=0, image=None,
    ) -> io.NodeOutput:  # fmt: skip
        check_mask_settings(strength, threshold, maps, clamp, grow, blur)
        check_unsteered(model, Use.MASK)
        samples = picture_latent(model, latent_image, "latent_image", "inverted")
        check_height_and_width(samples.shape, host.NEEDS_A_PICTURE.format("DiffEdit Mask"))
        size = picture_size(model, samples.shape)
        ratio = model.get_model_object("latent_format").temporal_downscale_ratio
        behind = backdrop(model, samples, image)

        def show(difference: Tensor) -> None:
            show_heat(lambda: masked_picture(behind[:1], to_pictures(heatmap(difference, clamp), size, ratio)[:1])[0])

        difference = host.estimate_difference(model, source, target, samples, strength, maps, seed, show)
        heat = heatmap(difference, clamp)
        cells = binarise(heat, threshold)
        if (difference.flatten(1).any(1) & ~cells.flatten(1).any(1)).any():
            logger.warning("DiffEdit Mask: no cell is over threshold x clamp x mean; lower threshold or clamp")
        mask = to_pictures(cells, size, ratio)
        mask = blur_mask(grow_mask(mask, grow), blur)
        pictures = fitted_pictures(behind, len(mask), size)
        small = to_pictures(heat, (heat.shape[-2], heat.shape[-1]), ratio)
        shown = mask_shown(pictures, mask, small, threshold, grow, cls)
        return io.NodeOutput(mask, to_pictures(heat, size, ratio), ui=shown)


class DiffEditSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffEditSampler",
            display_name="DiffEdit Sampler",
            category=CATEGORY,
            description="Decodes an inverted picture with a new prompt inside the mask. Outside it the latent stays "
            "exactly the picture's; Image Composite Masked after VAE Decode keeps its pixels too.",
            search_aliases=[*ALIASES, "inpaint", "masked decode", "keep background"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model that was connected to DDIM Invert; SEGA Guidance may be added now."
                ),
                io.Conditioning.Input("positive", tooltip="What the picture should show after the edit."),
                io.Conditioning.Input("negative", tooltip="What to keep out of the edited part."),
                InversionType.Input("inversion", tooltip="From DDIM Invert, whose steps and denoise hold here too."),
                io.Mask.Input(
                    "mask",
                    tooltip="Where the picture may change: white = changes, gray = blended, black = stays. From "
                    "DiffEdit Mask, or painted by hand.",
                ),
                io.Float.Input(
                    "cfg", default=7.5, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="Guidance towards the new prompt; the paper uses 7.5. Too low: nothing changes. Too high: "
                    "burnt colours inside the mask.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="The edited picture, for VAE Decode.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, positive, negative, inversion, mask, cfg=7.5) -> io.NodeOutput:
        if not (math.isfinite(cfg) and cfg >= 0.0):
            raise ValueError(f"cfg is {cfg}; it must be a number of 0 or more (usually 3 to 10)")
        if not isinstance(inversion, Inversion):
            raise ValueError("inversion holds no DDIM inversion; connect DDIM Invert")
        return io.NodeOutput({"samples": host.decode(model, positive, negative, inversion, mask, cfg)})


NODES = [DiffEditMask, DiffEditSampler]
