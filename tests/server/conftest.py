"""A real server with the pack, and a random checkpoint of the demo's shape, so that no trained weights are needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from graphs import PICTURE
from PIL import Image

from devtools.host import prepare_comfyui
from devtools.server import Server, lay_out, link

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """Random weights in the demo's shape. Not the training's first weights: those start every branch at zero."""
    prepare_comfyui(cpu=True)
    import torch
    from comfy.taesd.taesd import TAESD
    from safetensors.torch import save_file

    from demo.training.model import new_unet
    from demo.training.text import new_encoder
    from demo.training.vae import initialise

    torch.manual_seed(0)
    unet, text, vae = new_unet(), new_encoder().transformer, TAESD()
    initialise(vae)
    for parameter in unet.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.03)
    parts = {"model.diffusion_model.": unet, "cond_stage_model.transformer.": text, "first_stage_model.": vae}
    tensors = {
        prefix + name: value.detach().half().contiguous()
        for prefix, module in parts.items()
        for name, value in module.state_dict().items()
    }
    file = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    save_file(tensors, file)
    return file


def start(base: Path, checkpoint: Path, *flags: str) -> Server:
    lay_out(base)
    picture().save(base / "input" / PICTURE)
    link(base / "models" / "checkpoints" / checkpoint.name, checkpoint)
    link(base / "custom_nodes" / "probe", HERE / "probe")
    return Server(base, flags=flags)


def picture() -> Image.Image:
    """64 x 64 pixels of smooth colours with a bright square."""
    y, x = np.mgrid[0:64, 0:64]
    pixels = np.stack([4 * x, 4 * y, 255 - 2 * (x + y)], axis=-1).astype(np.uint8)
    pixels[16:32, 16:32] = (250, 240, 130)
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def server(tmp_path_factory, checkpoint):
    """A server with the host's default cache."""
    with start(tmp_path_factory.mktemp("server"), checkpoint) as running:
        yield running


@pytest.fixture(scope="session")
def uncached_server(tmp_path_factory, checkpoint):
    """A server that runs every node of every prompt."""
    with start(tmp_path_factory.mktemp("uncached"), checkpoint, "--cache-none") as running:
        yield running


@pytest.fixture(scope="session")
def object_info(server):
    return server.client.object_info()


@pytest.fixture(scope="session")
def recorded_info():
    """The classes that tests/devtools converts against."""
    return json.loads((HERE.parent / "devtools" / "object_info.json").read_text(encoding="utf-8"))
