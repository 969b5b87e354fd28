"""Labelled Strip: the pictures of a batch side by side."""

from __future__ import annotations

from comfy_api.latest import io

from .host.page.previews import in_colour
from .host.page.strips import strip


class LabelledStrip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LabelledStrip",
            display_name="Labelled Strip",
            category="semantic steering/comparison",
            description="Puts the pictures of a batch side by side, each under its caption: for SEGA Sweep, Slider "
            "Sweep, or any batch.",
            search_aliases=[
                "x/y plot", "xy plot", "compare", "compare strip", "sweep", "grid", "strip", "contact sheet", "caption",
                "对比图", "比較", "비교",
            ],
            inputs=[
                io.Image.Input(
                    "images", tooltip="The pictures of one batch, left to right; their pixels stay as they are."
                ),
                io.String.Input(
                    "labels", default="", multiline=True,
                    tooltip="One line for each picture, such as the labels of a sweep; no text at all: no captions. An "
                    "empty line leaves its picture without a caption. What is wider than its picture is broken into "
                    "lines and shrunk: too long, and it becomes hard to read. A letter that no font of this machine "
                    "has becomes a question mark.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="One wide picture: all of them, captions above.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, images, labels="") -> io.NodeOutput:
        if images is None or images.ndim != 4 or not len(images):
            raise ValueError("images holds no picture; connect a batch of pictures, for example from VAE Decode")
        # Without any text there are no captions: what a bypassed sweep leaves.
        lines = [line.strip() for line in labels.splitlines()] if labels.strip() else [""] * len(images)
        if len(lines) != len(images):
            raise ValueError(
                f"labels has {len(lines)} lines, images has {len(images)} pictures; write one line for each picture, "
                "or connect the labels of the sweep that made them"
            )
        return io.NodeOutput(strip(in_colour(images, "images"), lines))


NODES = [LabelledStrip]
