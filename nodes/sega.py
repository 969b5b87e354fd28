"""SEGA: steer a model along concepts given in words."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..guidance_core import THRESHOLD_OVER, Window
from .host.conditioning.checks import check_encoded
from .host.conditioning.concept import LARGEST_SCALE, ConceptInput, chain
from .host.conditioning.context import appended
from .host.page.previews import activity_tiles, backdrop, one_frame
from .host.page.progress import is_linked, own_id
from .host.page.sweeps import captions, numbers, repeated
from .host.page.told import into_metadata, told
from .host.run.ksampler import ksample, picture_size, sampler_names, scheduler_names
from .host.sega.patch import patch_model, recorded
from .host.sega.report import at_rest
from .host.sega.run import SEGARun
from .host.sega.settings import LARGEST_AIM, Page, SEGASettings
from .host.sega.vectors import ConceptVectors, Unrecorded
from .host.sega.wording import hints

# Another method of this name is in the list of nodes too (Spectral-Energy Guided Attention).
CATEGORY = "semantic steering/SEGA (semantic guidance)"
ALIASES = [
    "SEGA", "semantic guidance", "attribute", "expression", "add object", "remove object", "edit strength",
    "image editing", "edit image", "face edit", "语义引导", "图像编辑", "画像編集", "이미지 편집",
]  # fmt: skip

MOST_REFRESH = 10
VECTORS_SLOT = 2  # of SEGA Sampler's outputs

Concepts = io.Custom("SEGA_CONCEPTS")
Vectors = io.Custom("SEGA_VECTORS")


def _concept_inputs() -> list:
    return [
        io.Combo.Input(
            "direction", options=["add", "remove"], default="add",
            tooltip="add: steer towards the concept. remove: steer away from it.",
        ),
        io.Float.Input(
            "scale", default=5.0, min=-LARGEST_SCALE, max=LARGEST_SCALE, step=0.1, round=0.01,
            tooltip="Edit strength s_e. The paper uses 3 to 10. Too low: nothing changes. Too high: burnt colours and "
            "a different person. 0 switches the concept off; below 0 is the opposite direction.",
        ),
        io.Float.Input(
            "start_percent", default=0.2, min=0.0, max=1.0, step=0.01, round=0.001,
            tooltip="When the concept starts to act, as a share of the model's noise range (not of the steps). Earlier "
            "changes the composition, later only details. The paper's warm-up of 10 in 50 steps is 0.2; styles want "
            "0.3 and more.",
        ),
        io.Float.Input(
            "threshold", default=0.9, min=0.0, max=1.0, step=0.005, round=0.0001, advanced=True,
            tooltip="Share of each channel's positions that stay untouched. The paper uses 0.9 to 0.99. Too low: the "
            "whole picture shifts. Too high: the edit breaks up into specks. 0 edits everywhere.",
        ),
        io.Float.Input(
            "end_percent", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001, advanced=True,
            tooltip="When the concept stops acting. Lower it when the edit leaves artefacts in fine detail; after its "
            "end a concept costs nothing.",
        ),
        Concepts.Input("concepts", optional=True, tooltip="Concepts this one is added to; chain up to 16."),
        io.Mask.Input(
            "mask", optional=True,
            tooltip="Where the concept may act: white = full, gray = weaker, black = not at all. All black switches it "
            "off.",
        ),
    ]  # fmt: skip


def _concept(
    name: str, conditioning: list, direction: str, scale: float, start_percent: float, threshold: float,
    end_percent: float, concepts: tuple | None, mask: torch.Tensor | None, in_prompt: bool, said: tuple = (),
) -> io.NodeOutput:  # fmt: skip
    if direction not in ("add", "remove"):
        raise ValueError(f"direction is {direction!r}; it must be add or remove")
    signed = scale if direction == "add" else -scale
    window = Window(start_percent, end_percent)
    concept = ConceptInput(name, conditioning, signed, threshold, window, mask, in_prompt, said)
    return io.NodeOutput(chain(concepts, concept))


class SEGAConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SEGAConcept",
            display_name="SEGA Concept",
            category=CATEGORY,
            description="A change in words for SEGA (semantic guidance), such as 'glasses' or 'smile', with its "
            "strength and timing. Connect it to SEGA Guidance or SEGA Sampler.",
            search_aliases=[
                *ALIASES, "concept", "add glasses", "glasses", "smile", "眼镜", "微笑", "眼鏡", "笑顔", "안경", "미소",
            ],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the checkpoint that is steered."),
                io.String.Input(
                    "text", default="", multiline=True, dynamic_prompts=True,
                    placeholder="what should change, such as: glasses",
                    tooltip="The concept, short and plain: 'glasses', 'smile', 'oil painting'. A whole prompt blurs "
                    "the direction.",
                ),
                *_concept_inputs(),
                io.String.Input(
                    "prompt", default="", optional=True,
                    tooltip="The picture's own prompt: link the text that positive is made of. The concept is then "
                    "measured in its context, 'prompt, text' against positive at any cfg: less else changes, and it "
                    "works at cfg 1. Empty: the bare text, as in the paper.",
                ),
            ],
            outputs=[Concepts.Output(display_name="concepts", tooltip="For SEGA Guidance or SEGA Sampler.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, clip, text, direction="add", scale=5.0, start_percent=0.2, threshold=0.9, end_percent=1.0,
        concepts=None, mask=None, prompt="",
    ) -> io.NodeOutput:  # fmt: skip
        if not text.strip():
            raise ValueError("text is empty; write what should change, for example 'glasses', or bypass this node")
        if clip is None:
            raise ValueError("clip is missing: the checkpoint has no text encoder; connect a CLIP loader")
        prompt = prompt.strip().rstrip(",").rstrip()
        conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(f"{prompt}, {text}" if prompt else text))
        adds = (direction == "add") == (scale > 0)
        return _concept(
            text.strip(), conditioning, direction, scale, start_percent, threshold, end_percent, concepts, mask,
            bool(prompt), hints(text.strip(), adds, prompt),
        )  # fmt: skip


class SEGAConceptConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SEGAConceptConditioning",
            display_name="SEGA Concept (Conditioning)",
            category=CATEGORY,
            description="A concept from any conditioning (another text encoder, an image prompt). Its strength "
            "multiplies the edit, its area and mask limit it.",
            search_aliases=[*ALIASES, "concept conditioning"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="What to steer towards, encoded for the steered model."),
                *_concept_inputs(),
                io.Conditioning.Input(
                    "prompt", optional=True,
                    tooltip="The picture's own prompt: what positive gets. The concept is then appended to it and "
                    "compared with positive at any cfg: less else changes, and it works at cfg 1.",
                ),
            ],
            outputs=[Concepts.Output(display_name="concepts", tooltip="For SEGA Guidance or SEGA Sampler.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, conditioning, direction="add", scale=5.0, start_percent=0.2, threshold=0.9, end_percent=1.0,
        concepts=None, mask=None, prompt=None,
    ) -> io.NodeOutput:  # fmt: skip
        name = f"concept {len(concepts or ()) + 1}"
        if prompt is not None:
            check_encoded(conditioning=conditioning, prompt=prompt)
            conditioning = appended(prompt, conditioning)
        return _concept(
            name, conditioning, direction, scale, start_percent, threshold, end_percent, concepts, mask,
            prompt is not None,
        )  # fmt: skip


def _settings_inputs() -> list:
    return [
        io.Float.Input(
            "momentum_scale", default=0.0, min=0.0, max=1.0, step=0.05, round=0.001, advanced=True,
            tooltip="How much an edit keeps going in the direction it had (s_m). The paper uses 0 to 0.5. Too high: "
            "overshoot, specks. Above 0 the steps before start_percent cost as much as those after it.",
        ),
        io.Float.Input(
            "momentum_beta", default=0.4, min=0.0, max=0.99, step=0.05, round=0.001, advanced=True,
            tooltip="How slowly the momentum changes (β). The paper uses 0.4 to 0.8. Higher: steadier, later to react.",
        ),
        io.Combo.Input(
            "threshold_over", options=list(THRESHOLD_OVER), default="channel", advanced=True,
            tooltip="channel: each latent channel keeps its own strongest positions (the authors' code). latent: the "
            "strongest of all channels together (the paper's text); channels that barely react stay out. position: "
            "all channels keep the same positions, where the edit is strongest; less else changes.",
        ),
        io.Combo.Input(
            "base", options=["auto", "negative", "positive"], default="auto", advanced=True,
            tooltip="What a concept's direction starts from. auto: the negative prompt if there is one and cfg is not "
            "1, else the positive (guidance-distilled models such as Flux). Concepts with a prompt of their own always "
            "start from the positive.",
        ),
    ]  # fmt: skip


def _refresh_input() -> Any:
    return io.Int.Input(
        "refresh", default=1, min=1, max=MOST_REFRESH, optional=True, advanced=True,
        tooltip="Evaluate the concepts in every n-th step only and hold their direction in between. 1 is the paper. 2 "
        "nearly halves what concepts cost. For samplers that evaluate the model once a step, such as euler or "
        "dpmpp_2m. Too high: the edit lags behind the picture, weak or smeared.",
    )  # fmt: skip


class SEGAGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SEGAGuidance",
            display_name="SEGA Guidance",
            category=CATEGORY,
            description="SEGA (semantic guidance) steers a model along concepts: change one thing, keep the picture. "
            "Goes before any sampler, detailer or guider. Without concepts the model is unchanged.",
            search_aliases=ALIASES,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to steer; LoRAs and other patches may come before or after."
                ),
                Concepts.Input("concepts", optional=True, tooltip="From SEGA Concept. Unconnected: nothing changes."),
                *_settings_inputs(),
                _refresh_input(),
                io.Boolean.Input(
                    "show_activity", default=False, optional=True,
                    tooltip="Show on this node, at every step, where each concept acts. Costs a little time, because "
                    "each step waits for the picture.",
                ),
                io.Float.Input(
                    "aim", default=0.0, min=0.0, max=LARGEST_AIM, step=0.1, round=0.001, optional=True, advanced=True,
                    tooltip="How large every edit should be, whatever it is about; 2 is usual. Each concept's scale "
                    "then follows from it step by step, from 0 to 20; a concept of scale 5 gets that size, one of 10 "
                    "twice as much. 1 is what a concept alone makes of the picture when it begins. 0: off, the scales "
                    "are used as they are. Too low: nothing is seen. Too high: much else changes.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The model, steered in every run.")],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # it keeps its id: the host's cache would hand it to another node of the same inputs
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, concepts=None, momentum_scale=0.0, momentum_beta=0.4, threshold_over="channel", base="auto",
        refresh=1, show_activity=False, aim=0.0,
    ) -> io.NodeOutput:  # fmt: skip
        settings = SEGASettings(momentum_scale, momentum_beta, threshold_over, base, refresh, aim)
        # Later runs of the model say under this node what they did, whichever node samples.
        page = Page(own_id(cls), show_activity)
        return io.NodeOutput(patch_model(model, concepts, settings, page=page))


class SEGASampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SEGASampler",
            display_name="SEGA Sampler",
            category=CATEGORY,
            description="KSampler with SEGA (semantic guidance) built in, which also shows where each concept acted.",
            has_intermediate_output=True,  # its tiles are shown again after a reload, from the cache
            search_aliases=[*ALIASES, "ksampler"],
            inputs=[
                io.Model.Input("model", tooltip="The model that denoises the latent."),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="The noise. Keep it fixed to compare a picture with and without the edit.",
                ),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="Denoising steps; the paper uses 50."),
                io.Float.Input(
                    "cfg", default=8.0, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="Classifier-free guidance. The edit is added to it and does not depend on it.",
                ),
                io.Combo.Input("sampler_name", options=sampler_names(), tooltip="Any sampler works."),
                io.Combo.Input(
                    "scheduler", options=scheduler_names(),
                    tooltip="How the noise is removed over the steps; it decides how many steps a window holds.",
                ),
                io.Conditioning.Input("positive", tooltip="The prompt of the picture."),
                io.Conditioning.Input("negative", tooltip="What to keep out of the picture."),
                io.Latent.Input("latent_image", tooltip="The latent to denoise."),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="Below 1 keeps part of latent_image; concepts whose window lies before that part do not "
                    "act.",
                ),
                *_settings_inputs(),
                Concepts.Input("concepts", optional=True, tooltip="From SEGA Concept. Unconnected: a plain KSampler."),
                _refresh_input(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The denoised latent."),
                io.Mask.Output(
                    display_name="activity",
                    tooltip="Where each concept acted, 0 to 1: picture by picture, then concept.",
                ),
                Vectors.Output(
                    display_name="vectors",
                    tooltip="The edit itself, step by step: for SEGA Apply Vectors or SEGA Save Vectors.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="What the run did, as the text under this node; also in the metadata of pictures saved "
                    "after it.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise=1.0,
        momentum_scale=0.0, momentum_beta=0.4, threshold_over="channel", base="auto", concepts=None, refresh=1,
    ) -> io.NodeOutput:  # fmt: skip
        for name, value in (("cfg", cfg), ("denoise", denoise)):
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}; it must be a finite number")
        settings = SEGASettings(momentum_scale, momentum_beta, threshold_over, base, refresh)
        runs: list[SEGARun] = []
        given = (seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise)

        def record() -> ConceptVectors:
            again: list[SEGARun] = []
            ksample(patch_model(model, concepts, settings, again.append), *given)
            return recorded(again[0] if again else None, model, samples.shape, seed)

        keep = is_linked(cls, VECTORS_SLOT)
        latent = ksample(patch_model(model, concepts, settings, runs.append, vectors=keep), *given)
        samples = latent["samples"]
        size = picture_size(model, samples.shape)
        activity = torch.zeros(samples.shape[0] * max(1, len(concepts or ())), *size)
        if runs and runs[0].report.activity is not None:
            activity = runs[0].report.activity.maps(samples.shape, size)
        vectors = recorded(runs[0] if runs else None, model, samples.shape, seed) if keep else Unrecorded(record)
        report = told(samples) or at_rest(concepts or ())
        into_metadata(cls.hidden, report)
        if not concepts:
            return io.NodeOutput(latent, activity, vectors, str(report), ui={"images": []})  # no tile of an earlier run
        names = [concept.title for concept in concepts]
        shown = activity_tiles(backdrop(model, one_frame(samples), None), activity, names)
        return io.NodeOutput(latent, activity, vectors, str(report), ui=ui.PreviewImage(shown, cls=cls))


class SEGASweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SEGASweep",
            display_name="SEGA Sweep",
            category=CATEGORY,
            description="The same picture at several scales of a concept, as one batch with the same noise. Connect "
            "concepts and latent to SEGA Guidance and a KSampler, or to SEGA Sampler; Labelled Strip shows the result.",
            search_aliases=[*ALIASES, "sweep", "x/y plot", "xy plot", "compare", "grid", "strip"],
            inputs=[
                Concepts.Input(
                    "concepts", tooltip="From SEGA Concept. The scale of the last one is swept, the others keep theirs."
                ),
                io.Latent.Input(
                    "latent_image", tooltip="One picture (or video), repeated for each scale; all get the same noise."
                ),
                io.String.Input(
                    "scales", default="-10, -5, 0, 5, 10",
                    tooltip="A scale for each picture, -20 to 20, with commas between them and decimals with a point. "
                    "They replace the concept's scale and direction: above 0 is towards the concept, below 0 away from "
                    "it, whatever its direction was. 0 is the picture without it. The paper uses 3 to 10; too high: "
                    "burnt colours and a different person. Each one takes the memory of a picture.",
                ),
            ],
            outputs=[
                Concepts.Output(display_name="concepts", tooltip="The chain, its last concept with these scales."),
                io.Latent.Output(
                    display_name="latent", tooltip="latent_image once for each scale; for the sampler's latent_image."
                ),
                io.String.Output(display_name="labels", tooltip="A line for each picture; for Labelled Strip."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, concepts, latent_image, scales="-10, -5, 0, 5, 10") -> io.NodeOutput:
        if not concepts:
            raise ValueError("concepts is empty: there is no concept to sweep; connect a SEGA Concept")
        values = numbers(scales, "scales", LARGEST_SCALE)
        swept = dataclasses.replace(concepts[-1], scale=values)
        return io.NodeOutput((*concepts[:-1], swept), repeated(latent_image, len(values)), captions(values))


NODES = [SEGAConcept, SEGAConceptConditioning, SEGAGuidance, SEGASampler, SEGASweep]
