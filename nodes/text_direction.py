"""A dial between two texts, with nothing trained."""

from __future__ import annotations

from comfy_api.latest import io

from .host.conditioning.direction import moved
from .host.sliders.patch import STRONGEST
from .sliders import ALIASES, CATEGORY


class TextDirection(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TextDirection",
            display_name="Text Direction",
            category=CATEGORY,
            description="Moves a prompt along the difference of two texts: a slider at once, with nothing to train and "
            "nothing to pay while sampling. Goes between CLIP Text Encode and the sampler.",
            search_aliases=[
                *ALIASES, "text slider", "prompt slider", "prompt arithmetic", "conditioning arithmetic",
                "conditioning difference", "embedding direction",
            ],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="The picture's prompt, from CLIP Text Encode."),
                io.Clip.Input("clip", tooltip="The one that made conditioning."),
                io.String.Input(
                    "positive", default="", multiline=True, placeholder="a portrait of a woman with a smile, outdoors",
                    tooltip="What a strength above 0 leads to: the prompt, word for word, with the attribute.",
                ),
                io.String.Input(
                    "negative", default="", multiline=True,
                    placeholder="a portrait of a woman with a serious look, outdoors",
                    tooltip="What one below 0 leads to: the same prompt with its opposite. Keep all other words, and "
                    "their places: the texts are compared word by word.",
                ),
                io.Float.Input(
                    "strength", default=1.0, min=-STRONGEST, max=STRONGEST, step=0.05, round=0.001,
                    tooltip="How far. Where the prompt is positive itself, -1 is negative. Beyond 2 the pictures "
                    "become those of other prompts. 0: the prompt as it is.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning", tooltip="For the sampler's positive.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, conditioning, clip, positive="", negative="", strength=1.0) -> io.NodeOutput:
        return io.NodeOutput(moved(conditioning, clip, positive, negative, strength))


NODES = [TextDirection]
