"""Concept sliders: LoRA directions with a dial and a window, and sweeps of them."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io

from ..guidance_core import Window
from .host.lora import files
from .host.lora.clip import patched_clip
from .host.lora.fitting import Layers, fit
from .host.lora.wan_pair import made_for
from .host.page.messages import joined, message
from .host.page.progress import own_id, show_text
from .host.page.sweeps import captions, numbers, repeated
from .host.sliders.patch import APPLY_TO, STRONGEST, Slider, with_slider

logger = logging.getLogger("semantic_steering")

CATEGORY = "semantic steering/sliders"
ALIASES = [
    "concept slider", "slider", "LoRA", "lora schedule", "lora strength schedule", "attribute", "expression",
    "edit strength", "LECO", "滑块", "スライダー", "슬라이더",
]  # fmt: skip
NO_FILE = "none"

LoraModel = io.Custom("LORA_MODEL")


def _file_input() -> Any:
    return io.Combo.Input(
        "lora_name", options=[NO_FILE, *files.names()], default=NO_FILE,
        tooltip="A slider or any other LoRA from the loras folder, made for this checkpoint's family.",
    )  # fmt: skip


def _window_inputs() -> list:
    return [
        io.Float.Input(
            "start_percent", default=0.2, min=0.0, max=1.0, step=0.01, round=0.001,
            tooltip="When the slider switches on, as a share of the model's noise range (not of the steps). 0 changes "
            "the composition with the attribute; 0.2 to 0.4 keeps it; later the attribute fades. The paper's 750 of "
            "1000 is 0.25.",
        ),
        io.Float.Input(
            "end_percent", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001, advanced=True,
            tooltip="When the slider switches off. Lower it when it roughens fine detail. 0 and 1 together make it an "
            "ordinary LoRA.",
        ),
    ]  # fmt: skip


def _slider_input() -> Any:
    return LoraModel.Input(
        "slider", optional=True, tooltip="A slider from another node, such as a training. It replaces the file."
    )


def _layers(model: Any, clip: Any, lora_name: str, slider: Any) -> Layers:
    """The slider of the socket, or of the file."""
    if slider is None:
        if lora_name == NO_FILE:
            raise ValueError("lora_name is none and slider is not connected; choose a slider file, or connect one")
        tensors, told = files.read(lora_name), made_for(model, lora_name, files.metadata(lora_name))
        return fit(model, clip, tensors, f"lora_name {lora_name!r}", told)
    if lora_name != NO_FILE:
        logger.warning("slider is connected and lora_name is %r: the connected slider is used", lora_name)
    return fit(model, clip, slider, "slider (the connected one)")


def _added(model: Any, entry: Slider, lora_name: str, slider: Any) -> Any:
    """The model with the slider; what matched is said under the node."""
    patched = with_slider(model, entry)
    layers, window = entry.layers, entry.window
    spans = message("window", start=f"{window.start_percent:.2f}", end=f"{window.end_percent:.2f}")
    said = [joined("comma", [layers.summary, spans])]
    if not any(entry.strengths):
        said.append(message("strength_off"))
    elif window.empty:
        said.append(message("window_off"))
    elif not entry.whole_run:
        said.append(message("sampling_only"))
    if slider is not None and lora_name != NO_FILE:
        said.append(message("slider_used", file=lora_name))
    text = joined("semicolon", said)
    logger.info("%s: %s", layers.label, text)
    show_text(text)
    return patched


class SliderNode(io.ComfyNode):
    """What runs again when its slider's file changes."""

    @classmethod
    def fingerprint_inputs(cls, lora_name=NO_FILE, **_: Any) -> Any:
        """A value that differs when the file does, so that a slider trained again is read again. Of a linked name (None
        here) the host knows by itself when it changes."""
        return None if lora_name in (None, NO_FILE) else files.fingerprint(lora_name)


class SliderLoRALoader(SliderNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderLoRALoader",
            display_name="Slider LoRA Loader",
            category=CATEGORY,
            description="A LoRA with a dial and a window: switch it on after the composition is set, turn it below 0, "
            "chain as many as you like. Works with concept sliders and any other LoRA.",
            search_aliases=[*ALIASES, "scheduled lora", "lora loader", "compose sliders", "negative lora"],
            inputs=[
                io.Model.Input("model", tooltip="The model to change; chain several of these nodes."),
                _file_input(),
                io.Float.Input(
                    "strength", default=1.0, min=-STRONGEST, max=STRONGEST, step=0.05, round=0.001,
                    tooltip="The dial. 0 is off, below 0 the opposite; the paper uses -3 to 3. Too strong: the picture "
                    "falls apart.",
                ),
                *_window_inputs(),
                io.Combo.Input(
                    "apply_to", options=list(APPLY_TO), default="both", advanced=True,
                    tooltip="both: every estimate of the model, as the paper does. positive: only that of the positive "
                    "prompt, so that cfg amplifies the slider; use less strength.",
                ),
                io.Clip.Input(
                    "clip", optional=True,
                    tooltip="Only for LoRAs with a text-encoder half, which acts in the whole run, and for sliders "
                    "trained in the text encoder.",
                ),
                _slider_input(),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model with the slider."),
                io.Clip.Output(display_name="clip", tooltip="Only where the clip input is connected."),
            ],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # it keeps its id: the host's cache would hand it to another node of the same inputs
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, lora_name=NO_FILE, strength=1.0, start_percent=0.2, end_percent=1.0, apply_to="both", clip=None,
        slider=None,
    ) -> io.NodeOutput:  # fmt: skip
        window = Window(start_percent, end_percent)
        layers = _layers(model, clip, lora_name, slider)
        entry = Slider(layers, (strength,), window, apply_to, own_id(cls))
        patched = _added(model, entry, lora_name, slider)
        return io.NodeOutput(patched, patched_clip(clip, layers, strength))


class SliderSweep(SliderNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderSweep",
            display_name="Slider Sweep",
            category=CATEGORY,
            description="One seed with a slider at several strengths, in one batched run. Connect model and latent to "
            "a sampler, the pictures and labels to Labelled Strip.",
            search_aliases=[*ALIASES, "x/y plot", "compare strengths", "grid", "strip", "sweep"],
            inputs=[
                io.Model.Input("model", tooltip="The model to change; other sliders may come before."),
                io.Latent.Input(
                    "latent_image", tooltip="One latent. It is repeated for each strength, with the same noise."
                ),
                _file_input(),
                io.String.Input(
                    "strengths", default="-2, -1, 0, 1, 2",
                    tooltip="A strength for each picture, with commas between them; -20 to 20. The batch is as large "
                    "as the list is long.",
                ),
                *_window_inputs(),
                _slider_input(),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For the sampler, with the latent beside it."),
                io.Latent.Output(display_name="latent", tooltip="For the sampler: one entry a strength."),
                io.String.Output(display_name="labels", tooltip="A line for each picture, for Labelled Strip."),
            ],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # it keeps its id: the host's cache would hand it to another node of the same inputs
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, latent_image, lora_name=NO_FILE, strengths="-2, -1, 0, 1, 2", start_percent=0.2, end_percent=1.0,
        slider=None,
    ) -> io.NodeOutput:  # fmt: skip
        values = numbers(strengths, "strengths", STRONGEST)
        window = Window(start_percent, end_percent)
        latent = repeated(latent_image, len(values))
        layers = _layers(model, None, lora_name, slider)
        entry = Slider(layers, values, window, node=own_id(cls))
        patched = _added(model, entry, lora_name, slider)
        return io.NodeOutput(patched, latent, captions(values))


NODES = [SliderLoRALoader, SliderSweep]
