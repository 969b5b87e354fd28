"""A real server with the pack, and a random checkpoint of the demo's shape, so that no trained weights are needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from server_prompts import PICTURE

from devtools.server import random_checkpoint
from devtools.server.server import Server, lay_out, link

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return random_checkpoint.write(tmp_path_factory.mktemp("checkpoint") / "random.safetensors")


def start(base: Path, checkpoint: Path, *flags: str) -> Server:
    lay_out(base)
    picture().save(base / "input" / PICTURE)
    link(base / "models" / "checkpoints" / checkpoint.name, checkpoint)
    link(base / "custom_nodes" / "probe", HERE / "probe")
    write_sliders(base / "models" / "loras")
    return Server(base, flags=flags)


LAYERS = [f"lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_{part}" for part in ("q", "k", "v", "out_0")]


def write_sliders(folder: Path) -> None:
    """A random slider of the checkpoint's attention, and files that are something else. Their code, if it ran, would
    write `folder`/code-ran."""
    import torch
    from safetensors.torch import save, save_file

    def random(width: int, layers: list[str]) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(width)
        state = {}
        for layer in layers:
            state[f"{layer}.lora_down.weight"] = torch.randn(4, width, generator=generator) / width**0.5
            state[f"{layer}.lora_up.weight"] = torch.randn(width, 4, generator=generator)
            state[f"{layer}.alpha"] = torch.tensor(4.0)
        return state

    good = random(128, LAYERS)
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    save_file(good, folder / "good.safetensors")
    save_file({**good, **random(32, [text])}, folder / "with_text.safetensors")
    save_file({**good, **random(128, ["lora_unet_input_blocks_77_0_other"])}, folder / "partly.safetensors")
    save_file(random(320, LAYERS), folder / "other_widths.safetensors")
    save_file(random(64, ["lora_unet_double_blocks_0_img_attn_qkv"]), folder / "other_names.safetensors")
    save_file({**good, f"{LAYERS[0]}.lora_up.weight": torch.full((128, 4), torch.nan)}, folder / "nan.safetensors")
    save_file({"weight": torch.ones(3)}, folder / "no_lora.safetensors")
    (folder / "truncated.safetensors").write_bytes(save(good)[:-100])
    (folder / "long_header.safetensors").write_bytes((1 << 42).to_bytes(8, "little") + b"{}")
    claim = {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}
    header = json.dumps({f"{LAYERS[0]}.lora_up.weight": claim}).encode()
    (folder / "huge_shape.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 64)
    claim["data_offsets"] = [0, 0]  # no bytes at all for a shape of terabytes
    header = json.dumps({f"{LAYERS[0]}.lora_up.weight": claim}).encode()
    (folder / "no_bytes.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    torch.save({key: value.bfloat16() for key, value in good.items()}, folder / "authors.pt")
    torch.save({**good, f"{LAYERS[0]}.lora_up.weight": torch.ones(1).expand(1 << 20, 1 << 20)}, folder / "huge_view.pt")
    torch.save({**good, "layer": Code(folder / "code-ran")}, folder / "code.pt")


class Code:
    """Runs when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


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
