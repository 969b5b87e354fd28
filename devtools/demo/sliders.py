"""The demo's sliders: made by the pack's own node, in a running ComfyUI, as a user makes one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from demo.config import PICTURE
from demo.files import whole
from demo.sliders import FILES, NAMES, TARGET, poles

from ..environment import say
from ..server.client import Prompt
from ..server.server import CHECKPOINT, Server, lay_out

NODE = "SliderTrainText"


def training(info: dict[str, Any]) -> Prompt:
    """A prompt that trains a slider for each attribute, one after another, and saves them by the host's own node.
    info: the server's description of the training node, whose defaults hold."""
    usual = {key: spec[1]["default"] for key, spec in info["input"]["required"].items() if "default" in spec[1]}
    prompt: Prompt = {"0": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}}}
    for name in NAMES:
        positive, negative = poles(name)
        prompt[name] = {
            "class_type": NODE,
            "inputs": {
                **usual, "model": ["0", 0], "clip": ["0", 1], "target": TARGET, "positive": positive,
                "negative": negative, "width": PICTURE, "height": PICTURE,
            },
        }  # fmt: skip
        prompt[f"save {name}"] = {"class_type": "SaveLoRA", "inputs": {"lora": [name, 0], "prefix": f"loras/{name}"}}
    return prompt


def write(name: str, saved: Path, file: Path) -> None:
    """The host's file in half precision, with what it was made from in its header."""
    from safetensors.torch import load_file, save_file

    positive, negative = poles(name)
    tensors = {key: value.half().contiguous() for key, value in load_file(saved).items()}
    about = {
        "format": "pt", "version": "2", "kind": "concept slider", "domain": "portraits", "attribute": name,
        "target": TARGET, "positive": positive, "negative": negative, "base_model": CHECKPOINT,
        "node": NODE, "command": "python dev.py train-demo --part sliders",
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole(file) as part:
        save_file(tensors, part, metadata=about)
    say(f"wrote {file.name}, {file.stat().st_size / 1e3:.0f} KB")


def train() -> None:
    """Make the sliders anew and write them beside the checkpoint. Raises ServerError and PromptError in words."""
    with TemporaryDirectory(prefix="semantic-steering-") as base, Server(lay_out(Path(base))) as server:
        server.client.run(training(server.client.object_info()[NODE]), timeout=3600.0)
        for name in NAMES:
            write(name, Path(base) / "output" / "loras" / f"{name}_00001_.safetensors", FILES[name])
