"""Prompts around a node, by the types of its sockets: what it needs before it, and what makes its outputs run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..server.client import Client, Prompt
from ..server.server import PACK

CHECKPOINT, PICTURE = "random.safetensors", "picture.png"
STEPS = 2
# Where stock nodes give a type: class, output, inputs that are not its defaults.
STOCK: dict[str, tuple[str, int, dict[str, Any]]] = {
    "MODEL": ("CheckpointLoaderSimple", 0, {"ckpt_name": CHECKPOINT}),
    "CLIP": ("CheckpointLoaderSimple", 1, {"ckpt_name": CHECKPOINT}),
    "VAE": ("CheckpointLoaderSimple", 2, {"ckpt_name": CHECKPOINT}),
    "CONDITIONING": ("CLIPTextEncode", 0, {"text": "a portrait of a woman"}),
    "LATENT": ("EmptyLatentImage", 0, {"width": 64, "height": 64}),
    "IMAGE": ("LoadImage", 0, {"image": PICTURE}),
    "MASK": ("SolidMask", 0, {"width": 64, "height": 64}),
    "SIGMAS": ("BasicScheduler", 0, {"steps": STEPS, "scheduler": "normal"}),
    "NOISE": ("RandomNoise", 0, {}),
    "SAMPLER": ("KSamplerSelect", 0, {"sampler_name": "euler"}),
    "GUIDER": ("CFGGuider", 0, {}),
}
# Where stock nodes take a type, so that it is run.
RUNS = {
    "MODEL": ("KSampler", "model"), "CONDITIONING": ("KSampler", "positive"), "CLIP": ("CLIPTextEncode", "clip"),
    "GUIDER": ("SamplerCustomAdvanced", "guider"), "NOISE": ("SamplerCustomAdvanced", "noise"),
    "SIGMAS": ("SamplerCustomAdvanced", "sigmas"),
}  # fmt: skip
# How a value of a type runs without the pack.
PLAIN = {
    **RUNS, "LATENT": ("KSampler", "latent_image"), "IMAGE": ("VAEEncode", "pixels"),
    "MASK": ("SetLatentNoiseMask", "mask"), "LORA_MODEL": ("LoraModelLoader", "lora"),
}  # fmt: skip
# Inputs whose default does not run, or runs long, by name.
VALUES: dict[str, Any] = {
    "text": "glasses", "steps": STEPS, "maps": 1, "scales": "-4, 0, 4", "strengths": "-1, 0, 1", "iterations": 2,
    "labels": "", "method": "random", "sampler_name": "euler", "scheduler": "normal", "lora_name": "good.safetensors",
    "ckpt_name": CHECKPOINT, "image": PICTURE, "width": 64, "height": 64, "upscale_method": "nearest-exact",
    "positive": "glasses", "negative": "no glasses", "rank": 1, "batch_size": 1,
}  # fmt: skip
SAVES = "SEGASaveVectors"  # what SEGALoadVectors loads
EDITING = {"InstructPix2PixGuider"}  # classes that run on an edit model only
OTHER_TEXT = {"class_conditioning": "a portrait"}  # inputs that must differ from the other conditionings of their node
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


class Nodes:
    """The classes of a running server, by what their sockets say."""

    def __init__(self, info: dict[str, Any], pack: str = PACK):
        self.info = info
        self.ours = [name for name, entry in info.items() if entry["python_module"].endswith(pack)]

    def inputs(self, name: str) -> Iterator[tuple[str, str, dict[str, Any], bool]]:
        """Every input of a class: its name, its type, its options, whether it must be given."""
        for part in ("required", "optional"):
            for field, (kind, *rest) in self.info[name]["input"].get(part, {}).items():
                options = dict(rest[0]) if rest else {}
                if isinstance(kind, list):
                    kind, options = "COMBO", {**options, "options": kind}
                yield field, kind.split(",")[0], options, part == "required"

    def outputs(self, name: str) -> list[str]:
        return self.info[name]["output"]

    def odd(self, kind: str) -> list[str]:
        """The odd values of a type that there are to try."""
        own = self.info.get(f"Fuzz{kind}")
        return next(options["options"] for _, _, options, _ in self.inputs(f"Fuzz{kind}")) if own else []

    def giving(self, kind: str) -> tuple[str, int]:
        """The first of the pack's classes that gives a type, and which output it is."""
        return next((name, self.outputs(name).index(kind)) for name in self.ours if kind in self.outputs(name))

    def can_be_linked(self, kind: str) -> bool:
        """Whether there is a good value of a type to link to."""
        return kind in STOCK or kind == "LORA_MODEL" or any(kind in self.outputs(name) for name in self.ours)

    def taking(self, kind: str) -> tuple[str, str] | None:
        """The first of the pack's classes that makes something else of a type, and its input for it."""
        for name in self.ours:
            for field, wanted, _, _ in self.inputs(name):
                if wanted == kind and kind not in self.outputs(name):
                    return name, field
        return None


class Graph:
    """A prompt that grows: `nodes` is its content. values: of inputs by name, instead of those of VALUES."""

    def __init__(self, nodes: Nodes, values: dict[str, Any] | None = None):
        self.of, self.nodes, self.values = nodes, Prompt(), {**VALUES, **(values or {})}

    def add(self, name: str, given: dict[str, Any] | None = None) -> str:
        """A node with its defaults, what it needs before it, and the inputs given; its id."""
        given = dict(given or {})
        inputs = {}
        for field, kind, options, required in self.of.inputs(name):
            if field in given:
                inputs[field] = given.pop(field)
            elif kind in WIDGETS and (required or "default" in options):
                inputs[field] = self.value(field, kind, options)
            elif kind == "MODEL" and name in EDITING:
                inputs[field] = [self.add("FuzzEditModel"), 0]
            elif field in OTHER_TEXT:
                inputs[field] = [self.add("CLIPTextEncode", {"text": OTHER_TEXT[field]}), 0]
            elif required or (kind in STOCK and kind in self.of.outputs(name)):  # else that output gives nothing
                inputs[field] = self.source(kind)
        key = f"{name} {sum(entry['class_type'] == name for entry in self.nodes.values())}"
        self.nodes[key] = {"class_type": name, "inputs": {**inputs, **given}}
        return key

    def value(self, field: str, kind: str, options: dict[str, Any]) -> Any:
        if field in self.values and (kind != "COMBO" or self.values[field] in options["options"]):
            return self.values[field]
        if kind == "COMBO":
            return options.get("default", options["options"][0] if options["options"] else "")
        return options.get("default", "" if kind == "STRING" else 0)

    def source(self, kind: str) -> list[Any]:
        """A link to a good value of a type; one node for all that need it."""
        if kind == "LORA_MODEL":
            name, slot, given = "FuzzLORA_MODEL", 0, {}
        else:
            name, slot, given = STOCK[kind] if kind in STOCK else (*self.of.giving(kind), {})
        for key, entry in self.nodes.items():
            if entry["class_type"] == name and key != "odd":
                return [key, slot]
        return [self.add(name, given), slot]

    def finish(self, key: str, latent: list[Any] | None = None) -> None:
        """Run all that a node gives, and look at the numbers at the end. A latent that comes with a model or what is
        made into one is what that samples. latent: from a node before it."""
        outputs = self.of.outputs(self.nodes[key]["class_type"])
        latent = [key, outputs.index("LATENT")] if "LATENT" in outputs else latent
        for slot, kind in enumerate(outputs):
            self.run(kind, [key, slot], latent=latent)

    def run(
        self, kind: str, link: list[Any], using: dict[str, tuple[str, str]] = RUNS, latent: list[Any] | None = None
    ) -> None:
        """Run a value of a type, in stock nodes or else the pack's, and look at the numbers at the end. latent: for a
        sampler."""
        target = using.get(kind) or (self.of.taking(kind) if kind not in WIDGETS and kind not in STOCK else None)
        if target is None:
            self.nodes[f"check {len(self.nodes)}"] = {"class_type": "FuzzCheck", "inputs": {"value": link}}
            return
        name, field = target
        given = {field: link}
        if latent is not None and any(inside == "latent_image" for inside, *_ in self.of.inputs(name)):
            given = {"latent_image": latent, **given}
        key = self.add(name, given)
        if name == "SetLatentNoiseMask":
            self.run("LATENT", [key, 0], PLAIN)
        elif name == "LoraModelLoader":
            self.run("MODEL", [key, 0])
        else:
            self.finish(key, latent)


def nodes_of(client: Client, pack: str = PACK) -> Nodes:
    """The classes of a server that has a file for each of the pack's nodes that load one."""
    nodes = Nodes(client.object_info(), pack)
    for name in nodes.ours:
        if name == SAVES:
            client.run(around(nodes, name, {}))
            return Nodes(client.object_info(), pack)
    return nodes


def around(nodes: Nodes, name: str, given: dict[str, Any]) -> Prompt:
    """A class with the inputs given, and all that makes it run."""
    graph = Graph(nodes)
    graph.finish(graph.add(name, given))
    return graph.nodes


def odd(nodes: Nodes, name: str, field: str, kind: str, which: str) -> Prompt:
    """A class with an odd value linked to an input."""
    graph = Graph(nodes)
    graph.nodes["odd"] = {"class_type": f"Fuzz{kind}", "inputs": {"which": which}}
    graph.finish(graph.add(name, {field: ["odd", 0]}))
    return graph.nodes


def without_the_pack(nodes: Nodes, kind: str, which: str) -> Prompt | None:
    """The same odd value in stock nodes; None for a type that they do not take."""
    if kind not in PLAIN:
        return None
    graph = Graph(nodes)
    graph.nodes["odd"] = {"class_type": f"Fuzz{kind}", "inputs": {"which": which}}
    graph.run(kind, ["odd", 0], PLAIN)
    return graph.nodes
