"""Labelled Strip: pictures side by side, before and after or a whole batch."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from .host.page.previews import in_colour
from .host.page.strips import as_large_as, strip


class LabelledStrip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LabelledStrip",
            display_name="Labelled Strip",
            category="semantic steering/comparison",
            description="Puts pictures side by side, each under its caption, and shows them: before and after an edit, "
            "a sweep of SEGA or a slider, or any batch.",
            is_output_node=True,  # it shows its picture itself
            search_aliases=[
                "x/y plot", "xy plot", "compare", "compare strip", "before after", "image compare", "sweep", "grid",
                "strip", "contact sheet", "caption", "对比图", "比較", "비교",
            ],
            inputs=[
                io.Image.Input(
                    "images", tooltip="The pictures of one batch, left to right; their pixels stay as they are."
                ),
                io.String.Input(
                    "labels", default="", multiline=True, placeholder="one line for each picture",
                    tooltip="One line for each picture, such as the labels of a sweep; no text at all: no captions. An "
                    "empty line leaves its picture without a caption. What is wider than its picture is broken into "
                    "lines and shrunk: too long, and it becomes hard to read. A letter that no font of this machine "
                    "has becomes a question mark.",
                ),
                io.Image.Input(
                    "before", optional=True,
                    tooltip="What stands before the pictures of images, such as the picture without the edit; it "
                    "takes the first line of labels. Of another size, it is scaled to theirs.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="One wide picture: all of them, captions above.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, images, labels="", before=None) -> io.NodeOutput:
        if images.ndim != 4 or not len(images):
            raise ValueError("images holds no picture; connect a batch of pictures, for example from VAE Decode")
        if before is not None and (before.ndim != 4 or not len(before)):
            raise ValueError("before holds no picture; connect one, for example from VAE Decode, or nothing")
        pictures, said = in_colour(images, "images"), "images has"
        if before is not None:
            first = as_large_as(pictures, in_colour(before, "before"))
            pictures, said = torch.cat([first.to(pictures), pictures]), "before and images have"
        # Without any text there are no captions: what a bypassed sweep leaves.
        lines = [line.strip() for line in labels.splitlines()] if labels.strip() else [""] * len(pictures)
        if len(lines) != len(pictures):
            raise ValueError(
                f"labels has {len(lines)} lines, {said} {len(pictures)} pictures; write one line for each picture, "
                "or connect the labels of the sweep that made them"
            )
        sheet = strip(pictures, lines)
        return io.NodeOutput(sheet, ui=ui.PreviewImage(sheet, cls=cls))


NODES = [LabelledStrip]
