"""SEGA Report: what a run did, as text."""

from __future__ import annotations

from comfy_api.latest import io

from .host.page.messages import message
from .host.page.progress import show_text
from .host.page.told import into_metadata, told
from .sega import ALIASES, CATEGORY


class SEGAReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SEGAReport",
            display_name="SEGA Report",
            category=CATEGORY,
            description="What SEGA Guidance and windowed sliders did in a run, as text. Between the sampler and VAE "
            "Decode it also goes into the metadata of the pictures that are saved.",
            search_aliases=[*ALIASES, "report", "verdict", "metadata", "log"],
            inputs=[io.Latent.Input("latent", tooltip="Straight from the sampler that was steered.")],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The same latent."),
                io.String.Output(display_name="report", tooltip="A line for each concept and slider."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, latent) -> io.NodeOutput:
        report = told(latent["samples"]) or message("no_report")
        show_text(report)
        into_metadata(cls.hidden, report)
        return io.NodeOutput(latent, str(report))


NODES = [SEGAReport]
