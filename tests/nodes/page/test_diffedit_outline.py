"""What DiffEdit Mask sends for the outline, and the outline's rule (web/diffedit_outline.js) beside Python's."""

from __future__ import annotations

import base64
import io
import json
import random
from pathlib import Path
from types import SimpleNamespace

import comfy.cli_args
import comfy.model_patcher
import javascript
import numpy as np
import pytest
import tiny_models
import torch
from comfy.cli_args import LatentPreviewMethod
from comfy_execution.utils import CurrentNodeContext
from edit_runs import mixer_model
from PIL import Image
from safetensors.torch import load_file, save_file
from semantic_steering.guidance_core import binarise, grow_mask
from semantic_steering.nodes.diffedit import DiffEditMask
from semantic_steering.nodes.host.conditioning.masks import to_pictures

SOURCE, TARGET = tiny_models.stub_cond(1), tiny_models.stub_cond(2)
PICTURES = tiny_models.noise(2, *tiny_models.SIZE, seed=5)


@pytest.fixture
def temp(tmp_path, monkeypatch):
    """The host's folder for temporary files."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    return tmp_path / "temp"


def in_javascript(script: str, *arguments: object):
    """What the script gives, which reads heat maps with `read`."""
    return javascript.evaluate("diffedit_outline.js", f"{READ}; {script}", *arguments)


READ = """
const { readFileSync } = await import('node:fs');
const read = (path) => { const b = readFileSync(path); return m.readHeat(b.buffer.slice(b.byteOffset, b.byteOffset + b.length)); };
"""  # noqa: E501


def masks(file: Path, ratio: int, settings: list[tuple[float, int]]) -> torch.Tensor:
    """[settings, N, H, W] by the module."""
    found = in_javascript(
        """const heat = read(a[0]);
        say(a[2].map(([threshold, grow]) => [...Array(heat.count).keys()].map(
            (index) => Buffer.from(m.maskOf(heat, index, a[1], threshold, grow)).toString('hex'))));""",
        str(file), ratio, settings,
    )  # fmt: skip
    height, width = (ratio * cells for cells in load_file(file)["heat"].shape[-2:])
    rows = [[np.frombuffer(bytes.fromhex(one), np.uint8) for one in several] for several in found]
    return torch.from_numpy(np.array(rows)).reshape(len(settings), -1, height, width)


@pytest.mark.parametrize(("ratio", "seed"), [(1, 1), (8, 2), (8, 3), (16, 4)])
def test_the_mask_is_the_python_ones(ratio, seed, tmp_path):
    """Also where a value is the threshold itself, and where only its last bits tell it from the threshold."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    heat = torch.rand(2, draw.randint(1, 9), draw.randint(1, 9), generator=generator)
    steps = torch.randint(0, 1001, heat.shape, generator=generator) / 1000
    heat = torch.where(torch.rand(heat.shape, generator=generator) < 0.5, heat, steps)
    save_file({"heat": heat}, tmp_path / "heat.safetensors")
    values = heat.flatten().tolist()
    settings = [
        (threshold, grow)
        for threshold in [0.0, 1.0, *(n / 1000 for n in draw.sample(range(1001), 8)), *draw.sample(values, 2),
                          *(round(value, 3) for value in values[:4])]
        for grow in (0, 1, ratio - 1, ratio, ratio + 1, 3 * ratio + 2, 512)
    ]  # fmt: skip
    found = masks(tmp_path / "heat.safetensors", ratio, settings)
    size = (ratio * heat.shape[1], ratio * heat.shape[2])
    for (threshold, grow), mask in zip(settings, found, strict=True):
        expected = grow_mask(to_pictures(binarise(heat, threshold), size, 1), grow)
        assert torch.equal(mask.float(), expected), (threshold, grow)
    assert 0.01 < float(found.float().mean()) < 0.99


@pytest.mark.parametrize("seed", range(3))
def test_the_outline_is_every_edge_of_the_mask(seed):
    mask = torch.rand(7, 5, generator=torch.Generator().manual_seed(seed)) < 0.5
    lines = in_javascript("say(m.outlineOf(Uint8Array.from(a[0]), a[1]))", mask.flatten().int().tolist(), 5)
    found = set()
    for x0, y0, x1, y1 in zip(*[iter(lines)] * 4, strict=True):
        pieces = [((x, y0), (x + 1, y0)) for x in range(x0, x1)] + [((x0, y), (x0, y + 1)) for y in range(y0, y1)]
        assert not found & set(pieces)
        found |= set(pieces)
    padded = np.pad(mask.numpy(), 1)
    expected = {((x, y), (x + 1, y)) for y in range(8) for x in range(5) if padded[y, x + 1] != padded[y + 1, x + 1]}
    expected |= {((x, y), (x, y + 1)) for y in range(7) for x in range(6) if padded[y + 1, x] != padded[y + 1, x + 1]}
    assert found == expected


def test_the_share_is_in_words():
    def share(inside, heat=0.3):
        mask = [1] * inside + [0] * (1000 - inside)
        return in_javascript("say(m.shareOf(Uint8Array.from(a[0]), Float32Array.from(a[1])))", mask, [0, heat, 0])

    assert share(0, heat=0) == {"id": "texts_alike", "values": {}}
    assert [share(n) for n in (0, 4, 84, 1000)] == [
        {"id": "mask_empty", "values": {"threshold": {"input": "DiffEditMask.threshold"}}},
        {"id": "share_under_one", "values": {}},
        {"id": "share", "values": {"percent": 8}},
        {"id": "share", "values": {"percent": 100}},
    ]


@pytest.mark.parametrize("with_image", [False, True])
def test_the_node_sends_what_the_outline_needs(with_image, temp):
    """From the file that it sends, every other threshold's mask is that of a run with it."""
    image = torch.rand(2, 31, 57, 3) if with_image else None

    def run(**settings):
        return DiffEditMask.execute(
            mixer_model(), SOURCE, TARGET, {"samples": PICTURES}, image=image, blur=0, **settings
        )

    shown = run(threshold=0.3, grow=5).ui
    assert [len(shown[key]) for key in ("images", "outline")] == [2, 1]
    (sent,) = shown["outline"]
    assert (sent["threshold"], sent["grow"], len(sent["pictures"])) == (0.3, 5, 2)
    for picture in (*sent["pictures"], *shown["images"]):
        assert Image.open(temp / picture["filename"]).size == (48, 48) and picture["type"] == "temp"
    json.dumps(sent, allow_nan=False)
    settings = [(0.1, 0), (0.3, 5), (0.5, 8), (0.62, 3)]
    found = masks(temp / sent["heat"]["filename"], 8, settings)
    for (threshold, grow), mask in zip(settings, found, strict=True):
        assert torch.equal(mask.float(), run(threshold=threshold, grow=grow).args[0]), (threshold, grow)


def test_the_backdrop_is_the_picture_without_the_mask(temp):
    image = torch.randint(0, 256, (1, 48, 48, 3)) / 255
    shown = DiffEditMask.execute(
        mixer_model(), SOURCE, TARGET, {"samples": PICTURES[:1]}, image=image, threshold=0.0
    ).ui
    backdrop, masked = (
        torch.from_numpy(np.array(Image.open(temp / file["filename"]))) / 255
        for file in (shown["outline"][0]["pictures"][0], shown["images"][0])
    )
    torch.testing.assert_close(backdrop, image[0], atol=1.01 / 255, rtol=0)
    assert (backdrop - masked).abs().max() > 0.1


def test_a_video_has_a_heat_map_for_each_picture(temp):
    layout = tiny_models.VideoFormat()
    layout.temporal_downscale_ratio = 4
    size = (4, 3, 6, 6)
    model, texts = mixer_model(size=size, layout=layout), [tiny_models.stub_cond(i, size=size) for i in (1, 2)]
    out = DiffEditMask.execute(model, *texts, {"samples": tiny_models.noise(1, *size)}, blur=0, grow=2, threshold=0.4)
    (sent,) = out.ui["outline"]
    assert len(sent["pictures"]) == 9
    assert torch.equal(masks(temp / sent["heat"]["filename"], 8, [(0.4, 2)])[0].float(), out.args[0])


@pytest.mark.parametrize("method", LatentPreviewMethod)
def test_the_heat_map_grows_before_the_users_eyes(method, temp, monkeypatch):
    """One picture a forward pass, the first one of the batch, unless live previews are off."""
    from server import PromptServer

    sent = []
    maps = []
    server = SimpleNamespace(
        client_id="someone",
        send_sync=lambda *message: (maps if message[0] == "semantic-steering.text" else sent).append(message),
    )
    monkeypatch.setattr(PromptServer, "instance", server, raising=False)
    monkeypatch.setattr(comfy.cli_args.args, "preview_method", method)
    model = mixer_model()
    monkeypatch.setattr(model.model, "memory_required", lambda shape, cond_shapes=None: float(shape[0]))
    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "get_free_memory", lambda self, device: 12)
    with CurrentNodeContext("a prompt", "3:9"):
        out = DiffEditMask.execute(model, SOURCE, TARGET, {"samples": PICTURES}, maps=3)
    assert [(told["node"], told["text"]["values"], told["passing"]) for _, told, _ in maps] == [
        ("3:9", {"done": done, "total": 3}, True) for done in (1, 2, 3)
    ]
    if method is LatentPreviewMethod.NoPreviews:
        assert not sent
        return
    assert [(event, about["node"], client) for event, about, client in sent] == [
        ("semantic-steering.heat", "3:9", "someone")
    ] * 3
    pictures = [
        np.array(Image.open(io.BytesIO(base64.b64decode(about["picture"].partition(",")[2])))).astype(float)
        for _, about, _ in sent
    ]
    assert len({picture.tobytes() for picture in pictures}) == 3
    # The last is of all maps: the hotter, the further from the backdrop.
    backdrop = np.array(Image.open(temp / out.ui["outline"][0]["pictures"][0]["filename"])).astype(float)
    change, heat = np.abs(pictures[-1] - backdrop).mean(-1), out.args[1][0].numpy()
    assert change.shape == (48, 48) and np.corrcoef(change.ravel(), heat.ravel())[0, 1] > 0.5
