"""What the nodes that train have in common: their inputs, from `steps` on, and their outputs."""

from __future__ import annotations

from comfy_api.latest import io

from .host.training.layers import CHOICES
from .sliders import LoraModel

LossMap = io.Custom("LOSS_MAP")


def common_inputs(
    steps: int, learning_rate: float, end_percent: float, layers: str = CHOICES[0], sized: bool = False
) -> list:
    """A node's inputs from `steps` on, with its defaults. sized: with width and height, for a node without pictures."""
    return [
        *_length_input(steps),
        *_shape_inputs(layers),
        *_rate_inputs(learning_rate),
        *_range_inputs(end_percent),
        *(_size_inputs() if sized else []),
        *_watching_inputs(),
        *_sockets(),
    ]


def _length_input(steps: int) -> list:
    return [
        io.Int.Input(
            "steps", default=steps, min=1, max=100_000,
            tooltip="How often the slider is corrected. Watch the strip: it is done when the outer pictures change no "
            "more. Too few: a dial with little effect. A stopped training goes on with the same inputs.",
        ),
    ]  # fmt: skip


def _shape_inputs(layers: str) -> list:
    return [
        io.Int.Input(
            "rank", default=4, min=1, max=1024, advanced=True,
            tooltip="Numbers a layer's change is made of. 4 is enough for one attribute; more takes memory and learns "
            "side effects too.",
        ),
        io.Float.Input(
            "alpha", default=1.0, min=0.001, max=10_000.0, step=0.1, round=0.001, advanced=True,
            tooltip="The change is scaled by alpha / rank. Twice as much here acts like twice the learning_rate.",
        ),
        io.Combo.Input(
            "layers", options=list(CHOICES), default=layers, advanced=True,
            tooltip="no cross-attention: all but what reads the text, as the authors' sliders. self-attention: less "
            "memory, keeps the composition. all: strongest, and most side effects.",
        ),
    ]  # fmt: skip


def _rate_inputs(rate: float) -> list:
    return [
        io.Float.Input(
            "learning_rate", default=rate, min=0.000001, max=1.0, step=0.0001, round=0.000001, advanced=True,
            tooltip="How far a step goes. Too high: the pictures fall apart, or the loss is no number. Too low: "
            "nothing happens in so many steps.",
        ),
        io.Int.Input(
            "batch_size", default=4, min=1, max=64, advanced=True,
            tooltip="States a step looks at. More: calmer, slower. Memory decides by itself how many are computed at "
            "once.",
        ),
    ]  # fmt: skip


def _range_inputs(end: float) -> list:
    return [
        io.Float.Input(
            "start_percent", default=0.0, min=0.0, max=1.0, step=0.01, round=0.001, advanced=True,
            tooltip="Where the noise levels begin that are trained at, as a share of the model's range.",
        ),
        io.Float.Input(
            "end_percent", default=end, min=0.0, max=1.0, step=0.01, round=0.001, advanced=True,
            tooltip="Where they end; 1 is the finished picture. Late levels hold only fine detail, on which two texts "
            "hardly differ.",
        ),
    ]  # fmt: skip


def _size_inputs() -> list:
    return [
        io.Int.Input(
            name, default=0, min=0, max=16384, step=8, advanced=True,
            tooltip="Pixels of the pictures it is trained on; 0: the model's own size. Smaller is faster and needs "
            "less memory.",
        )
        for name in ("width", "height")
    ]  # fmt: skip


def _watching_inputs() -> list:
    return [
        io.Int.Input(
            "show_every", default=25, min=1, max=100_000, advanced=True,
            tooltip="Steps between two strips: one seed at several strengths, with the slider as it is then.",
        ),
        io.Int.Input(
            "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=io.ControlAfterGenerate.fixed,
            tooltip="All that is random: the pictures it is trained on, the slider's start, the strip's picture.",
        ),
        io.Float.Input(
            "cfg", default=5.0, min=0.0, max=100.0, step=0.1, round=0.01, advanced=True,
            tooltip="Of the strip's pictures alone. 1 for models that are used without (Flux, Turbo, Lightning).",
        ),
    ]  # fmt: skip


def _sockets() -> list:
    return [
        LoraModel.Input(
            "slider",
            optional=True,
            tooltip="A slider to go on from, of the same layers, rank and alpha, such as one of this node.",
        ),
        io.Vae.Input(
            "vae", optional=True, tooltip="For real pictures in the strip; without it they are approximate colours."
        ),
    ]


def outputs() -> list:
    return [
        LoraModel.Output(
            display_name="slider", tooltip="For Slider LoRA Loader, Slider Sweep, Load LoRA Model and Save LoRA."
        ),
        LossMap.Output(display_name="loss", tooltip="Of each step, for Plot Loss Graph."),
        io.Image.Output(display_name="strip", tooltip="One seed at several strengths of the finished slider."),
    ]
