"""Concept vectors: keep the edit of one run, add it to others."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io, ui

from .host.page.messages import message
from .host.page.progress import own_id, show_text
from .host.sega import vector_files as files
from .host.sega.vector_patch import with_vectors
from .host.sega.vectors import asked_for
from .sega import ALIASES, CATEGORY, LARGEST_SCALE, Vectors

logger = logging.getLogger("semantic_steering")

WORDS = [*ALIASES, "concept vector", "semantic vector", "reuse edit"]


class SEGASaveVectors(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SEGASaveVectors",
            display_name="SEGA Save Vectors",
            category=CATEGORY,
            description="Writes the vectors of SEGA Sampler to a *.sega.safetensors file in the output folder.",
            search_aliases=[*WORDS, "save vectors", "export"],
            inputs=[
                Vectors.Input("vectors", tooltip="What SEGA Sampler recorded; nothing is changed in it."),
                io.String.Input(
                    "filename_prefix", default="vectors/sega",
                    tooltip="Folder and beginning of the name, inside ComfyUI's output folder; a number is appended. A "
                    "picture of 1024 x 1024 takes 0.26 MB a step.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, vectors, filename_prefix="vectors/sega") -> io.NodeOutput:
        vectors = asked_for(vectors)
        if vectors.neutral:
            logger.warning("SEGA Save Vectors: no concept acted in this run; the file will change nothing")
        name = files.save(vectors, filename_prefix, _workflow(cls.hidden))
        text = message("saved", file=name, what=vectors.summary)
        show_text(text)
        return io.NodeOutput(ui=ui.PreviewText(text))


def _workflow(hidden: Any) -> dict[str, Any]:
    """The prompt and the workflow that the host hands to output nodes; nothing where a node is called directly."""
    if hidden is None:
        return {}
    return {**({} if hidden.prompt is None else {"prompt": hidden.prompt}), **(hidden.extra_pnginfo or {})}


class SEGALoadVectors(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SEGALoadVectors",
            display_name="SEGA Load Vectors",
            category=CATEGORY,
            description="Reads vectors that SEGA Save Vectors wrote.",
            search_aliases=[*WORDS, "load vectors", "import"],
            inputs=[
                io.Combo.Input(
                    "file", options=files.names() or [files.NO_FILE],
                    tooltip="A *.sega.safetensors file of the input or the output folder. Press R after saving one.",
                ),
            ],
            outputs=[Vectors.Output(display_name="vectors", tooltip="For SEGA Apply Vectors.")],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, file=None) -> Any:
        return None if file is None else files.fingerprint(file)  # None: a link

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        vectors = files.load(file)
        show_text(vectors.summary)
        return io.NodeOutput(vectors)


class SEGAApplyVectors(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SEGAApplyVectors",
            display_name="SEGA Apply Vectors",
            category=CATEGORY,
            description="Adds a recorded edit to every run of a model, at the cost of plain sampling: no concept is "
            "evaluated. Works best with the seed and the kind of picture it was recorded with.",
            search_aliases=[*WORDS, "apply vectors"],
            inputs=[
                io.Model.Input("model", tooltip="A model of the family that the vectors were recorded on."),
                Vectors.Input("vectors", tooltip="From SEGA Sampler or SEGA Load Vectors."),
                io.Float.Input(
                    "scale", default=1.0, min=-LARGEST_SCALE, max=LARGEST_SCALE, step=0.05, round=0.001,
                    tooltip="1 is the edit as recorded, 0 none, below 0 the opposite. Usually 0.5 to 2. Too high: "
                    "burnt colours, specks where the recorded picture had its edit.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For any sampler, detailer or guider.")],
            hidden=[io.Hidden.unique_id],
            not_idempotent=True,  # it keeps its id: the host's cache would hand it to another node of the same inputs
        )  # fmt: skip

    @classmethod
    def execute(cls, model, vectors, scale=1.0) -> io.NodeOutput:
        return io.NodeOutput(with_vectors(model, asked_for(vectors), scale, own_id(cls)))


NODES = [SEGASaveVectors, SEGALoadVectors, SEGAApplyVectors]
