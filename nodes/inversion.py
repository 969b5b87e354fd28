"""DDIM inversion: from a picture to the noise that gives it back."""

from __future__ import annotations

import math

from comfy_api.latest import io

from .host.editing import inversion as host
from .host.run.ksampler import scheduler_names
from .host.run.levels import check_levels, schedule
from .host.run.patches import Use, check_unsteered

CATEGORY = "semantic steering/DiffEdit"

InversionType = io.Custom("INVERSION")


class DDIMInvert(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DDIMInvert",
            display_name="DDIM Invert",
            category=CATEGORY,
            description="Finds the noise that a sampler turns back into your picture, so that the picture can be "
            "edited: with DiffEdit Sampler, with SEGA, or with a new prompt.",
            search_aliases=[
                "inversion", "unsample", "unsampler", "DDIM inversion", "DiffEdit", "SDEdit", "image to noise",
                "encode noise", "real image", "noise inversion", "图像反演", "ノイズ反転", "노이즈 반전",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model that will decode. Whole-run LoRAs are fine; SEGA Guidance goes after."
                ),
                io.Conditioning.Input(
                    "positive",
                    tooltip="The prompt that the inversion follows. An empty text (the paper's way) keeps the picture "
                    "open for any edit; a text that describes the picture keeps more of it.",
                ),
                io.Latent.Input("latent_image", tooltip="The picture, from VAE Encode."),
                io.Int.Input(
                    "steps", default=25, min=1, max=10000,
                    tooltip="Steps of the whole schedule. More is more exact and slower; the paper uses 50.",
                ),
                io.Combo.Input(
                    "scheduler", options=scheduler_names(), default="normal",
                    tooltip="The schedule to climb. Decode with the same one (the sigmas output is it).",
                ),
                io.Float.Input(
                    "denoise", default=0.8, min=0.0, max=1.0, step=0.01, round=0.001,
                    tooltip="How far up to go, as a share of the steps; the paper's encoding ratio r, 0.5 to 0.8 "
                    "(SDEdit: 0.3 to 0.6). Too low: the edit cannot take hold. Too high: the picture changes more "
                    "than asked. 0 leaves no step and is refused.",
                ),
                io.Float.Input(
                    "cfg", default=1.0, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="Guidance of the inversion itself. Keep 1: above it the way back is ill-conditioned and "
                    "the picture is not promised to return. Other values need the negative.",
                ),
                io.Combo.Input(
                    "method", options=list(host.METHODS), default="fixed point",
                    tooltip="fixed point: solves each step, so that decoding gives the picture back. ddim: the plain "
                    "step of the papers, one evaluation each, less exact. random: fresh noise instead (SDEdit), which "
                    "keeps the layout only.",
                ),
                io.Int.Input(
                    "iterations", default=8, min=1, max=100, advanced=True,
                    tooltip="The most model evaluations that fixed point may take for one step; it stops as soon as "
                    "the step is solved, usually after 3 to 5. Raise it when a residual is refused.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, advanced=True,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="The noise of method random. The noise output also hands it on, to samplers that draw "
                    "noise of their own.",
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="The negative prompt; only used where cfg is not 1."
                ),
                io.Sigmas.Input(
                    "sigmas", optional=True,
                    tooltip="A schedule of your own, falling to 0. It replaces steps, scheduler and denoise.",
                ),
            ],
            outputs=[
                InversionType.Output(display_name="inversion", tooltip="Every state on the way, for DiffEdit Sampler."),
                io.Noise.Output(
                    display_name="noise",
                    tooltip="For SamplerCustomAdvanced with the same latent and the sigmas output; works everywhere.",
                ),
                io.Sigmas.Output(display_name="sigmas", tooltip="The schedule to decode with."),
                io.Latent.Output(
                    display_name="inverted_latent",
                    tooltip="For KSampler (Advanced): add_noise disable, the same steps and scheduler, and "
                    "start_at_step from here. Not for flow models at denoise 1.",
                ),
                io.Int.Output(
                    display_name="start_at_step",
                    tooltip="For KSampler (Advanced): the steps that denoise left out. With sigmas of your own 0.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, positive, latent_image, steps=25, scheduler="normal", denoise=0.8, cfg=1.0, method="fixed point",
        iterations=8, seed=0, negative=None, sigmas=None,
    ) -> io.NodeOutput:  # fmt: skip
        check_unsteered(model, Use.INVERSION)
        if method not in host.METHODS:
            raise ValueError(f"method is {method!r}; it must be one of {', '.join(host.METHODS)}")
        if iterations < 1:
            raise ValueError(f"iterations is {iterations}; at least 1 is needed (usually 8)")
        if not (math.isfinite(cfg) and cfg >= 0.0):
            raise ValueError(f"cfg is {cfg}; it must be a number of 0 or more (1 inverts best)")
        if negative is None and not math.isclose(cfg, 1.0):
            raise ValueError(
                f"cfg is {cfg:g} and negative is not connected; connect a negative prompt, or set cfg to 1"
            )
        start = 0
        if sigmas is None:
            sigmas = schedule(model.get_model_object("model_sampling"), scheduler, steps, denoise)
            start = steps - (len(sigmas) - 1)
        else:
            sigmas = check_levels(model.get_model_object("model_sampling"), sigmas)
        inversion = host.invert(model, positive, negative, latent_image, sigmas, cfg, method, iterations, seed)
        return io.NodeOutput(
            inversion, host.InversionNoise(inversion, model, seed), sigmas,
            host.inverted_latent(model, latent_image, inversion), start,
        )  # fmt: skip


NODES = [DDIMInvert]
