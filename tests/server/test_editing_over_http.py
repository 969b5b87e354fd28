"""A picture edited through the whole graph, from the input folder to the pasted result, inside a real server."""

from __future__ import annotations

import asyncio
import io
import time

import aiohttp
import numpy as np
import pytest
import torch
from PIL import Image
from said import words
from server_prompts import PICTURE, calls, continued, decoded, inverted, latent, masked, node

from devtools.server.client import Prompt, PromptInterrupted

pytestmark = pytest.mark.server


def edited() -> Prompt:
    """LoadImage → VAEEncode → DDIM Invert and DiffEdit Mask → DiffEdit Sampler → VAEDecode → paste → save."""
    prompt = decoded() | {key: entry for key, entry in masked().items() if key not in ("save", "invert")}
    prompt["pixels"] = node("VAEDecode", samples=["edit", 0], vae=["checkpoint", 2])
    prompt["pasted"] = node(
        "ImageCompositeMasked", destination=["picture", 0], source=["pixels", 0], mask=["mask", 0], x=0, y=0,
        resize_source=False,
    )  # fmt: skip
    prompt["unpasted file"] = node("SaveImage", images=["pixels", 0], filename_prefix="unpasted")
    prompt["file"] = node("SaveImage", images=["pasted", 0], filename_prefix="pasted")
    prompt["mask file"] = node("SaveImage", images=["shown", 0], filename_prefix="mask")
    return prompt


def picture(server, outputs, key: str) -> np.ndarray:
    (entry,) = outputs[key]["images"]
    return np.asarray(Image.open(io.BytesIO(server.client.view(entry))).convert("RGB"))


def counted(server, prompt: Prompt) -> torch.Tensor:
    """The latent of a prompt that was really sampled."""
    before = calls(server)
    result = latent(server, prompt)
    assert calls(server) > before
    return result


@pytest.fixture(scope="module")
def outputs(server):
    return server.client.run(edited())


class TestAWholeEdit:
    def test_the_background_is_the_pictures_own_pixels(self, server, outputs):
        before = np.asarray(Image.open(server.base / "input" / PICTURE))
        inside = picture(server, outputs, "mask file")[..., 0] > 0
        pasted, unpasted = (picture(server, outputs, key) for key in ("file", "unpasted file"))
        assert 0.02 < inside.mean() < 0.9
        assert np.array_equal(pasted[~inside], before[~inside])
        assert np.array_equal(pasted[inside], unpasted[inside])
        assert not np.array_equal(unpasted[~inside], before[~inside])  # the autoencoder's loss, which the paste mends

    def test_the_background_is_the_pictures_own_latent(self, server, outputs):
        inside = picture(server, outputs, "mask file")[..., 0] > 0
        cells = torch.from_numpy(inside).reshape(8, 8, 8, 8).any(3).any(1)
        edit = latent(server, edited())
        prompt = edited()
        prompt["save"]["inputs"]["samples"] = ["latent", 0]
        original = latent(server, prompt)
        assert torch.equal(edit[..., ~cells], original[..., ~cells])
        assert not torch.equal(edit[..., cells], original[..., cells])

    def test_the_mask_is_previewed_over_the_picture(self, server, outputs):
        before = np.asarray(Image.open(server.base / "input" / PICTURE)).astype(int)
        inside = picture(server, outputs, "mask file")[..., 0] > 0
        assert outputs["mask"]["images"][0]["type"] == "temp"
        difference = np.abs(picture(server, outputs, "mask").astype(int) - before).max(-1)
        assert (difference[~inside] <= 1).all()
        assert difference[inside].mean() > 20

    def test_again_without_the_cache(self, server, uncached_server, outputs):
        first, again = (uncached_server.client.run(edited()) for _ in range(2))
        for key in ("file", "unpasted file", "mask file"):
            assert np.array_equal(picture(uncached_server, first, key), picture(uncached_server, again, key))
            assert np.array_equal(picture(uncached_server, first, key), picture(server, outputs, key))


def test_the_preview_without_a_picture_is_the_latents_colours(server):
    prompt = masked(seed=1)
    del prompt["mask"]["inputs"]["image"]
    (entry,) = server.client.run(prompt)["mask"]["images"]
    assert Image.open(io.BytesIO(server.client.view(entry))).size == (64, 64)


def texts(server, prompt: Prompt, sent_by: str | None = "listener") -> dict[str, list[str]]:
    """{node id: what the page "listener" was told to show under it} while a prompt ran."""

    def run_it() -> None:
        server.client.wait(server.client.queue(prompt, sent_by))

    async def listen() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        async with aiohttp.ClientSession() as session, session.ws_connect(server.url + "/ws?clientId=listener") as page:
            run = asyncio.create_task(asyncio.to_thread(run_it))
            while not run.done():
                try:
                    message = await page.receive(timeout=0.5)
                except asyncio.TimeoutError:  # another class than TimeoutError in Python 3.10
                    continue
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                event = message.json()
                if event["type"] == "semantic-steering.text":
                    found.setdefault(event["data"]["node"], []).append(words(event["data"]["text"]))
            await run
        return found

    return asyncio.run(listen())


def test_the_number_of_evaluations_is_shown_under_the_node(uncached_server):
    before = calls(uncached_server)
    prompt = masked(maps=3) | inverted(steps=3, method="ddim")
    prompt["mask file"] = node("SaveImage", images=["shown", 0], filename_prefix="mask")
    shown = texts(uncached_server, prompt)
    used = calls(uncached_server) - before
    assert shown["invert"] == [
        *(f"step {i} of 3, {i} model evaluations" for i in (1, 2, 3)),
        "3 steps, 3 model evaluations",
    ]
    assert shown["mask"][-1] == "3 of 3 maps"
    assert used >= 4  # the mask's, in as few as memory allows


@pytest.mark.parametrize("sender", [None, "another page"])
def test_what_another_one_sent_is_shown_under_no_node(uncached_server, sender):
    """Its graph is not the page's, so an id may be any node."""
    assert texts(uncached_server, inverted(steps=3, method="ddim"), sender) == {}


def test_an_empty_mask_returns_the_picture(server):
    """Also LoadImage's own mask of a picture without transparency, which has a size of its own."""
    prompt = decoded()
    original = inverted()
    original["save"]["inputs"]["samples"] = ["latent", 0]
    expected = latent(server, original)
    prompt["edit"]["inputs"]["mask"] = ["picture", 1]
    assert torch.equal(latent(server, prompt), expected)
    prompt["edit"]["inputs"]["mask"] = ["mask", 0]
    prompt["mask"]["inputs"]["value"] = 0.0
    assert torch.equal(latent(server, prompt), expected)
    prompt["mask"]["inputs"]["value"] = 1.0
    assert not torch.equal(latent(server, prompt), expected)


def test_the_noise_and_the_latent_lead_back_to_the_picture(server):
    """SamplerCustomAdvanced with noise and sigmas, and KSampler (Advanced) with inverted_latent."""
    original = inverted()
    original["save"]["inputs"]["samples"] = ["latent", 0]
    expected = latent(server, original)
    settings = {"steps": 8, "denoise": 0.5, "iterations": 20}
    assert (latent(server, continued(**settings)) - expected).norm() < 1e-3 * expected.norm()
    prompt = inverted(**settings)
    prompt["decode"] = node(
        "KSamplerAdvanced", model=["checkpoint", 0], add_noise="disable", noise_seed=0, steps=8, cfg=1.0,
        sampler_name="euler", scheduler="normal", positive=["empty", 0], negative=["empty", 0],
        latent_image=["invert", 3], start_at_step=["invert", 4], end_at_step=10000,
        return_with_leftover_noise="disable",
    )  # fmt: skip
    prompt["save"]["inputs"]["samples"] = ["decode", 0]
    assert (latent(server, prompt) - expected).norm() < 1e-3 * expected.norm()


def test_two_texts_of_one_meaning_give_an_empty_mask(server):
    prompt = masked()
    prompt["target"] = prompt["source"]
    assert picture(server, server.client.run(prompt), "save").max() == 0


@pytest.mark.parametrize("method", ["fixed point", "ddim", "random"])
def test_an_edit_gives_the_same_bits_again(uncached_server, method):
    prompt = decoded(method=method, seed=3)
    first = counted(uncached_server, prompt)
    assert not torch.equal(counted(uncached_server, decoded(method=method, seed=3, denoise=0.5)), first)
    assert torch.equal(counted(uncached_server, prompt), first)


@pytest.mark.parametrize("make", [lambda: inverted(steps=24), lambda: decoded(steps=60, method="random")],
                         ids=["inversion", "decode"])  # fmt: skip
def test_an_interrupt_stops_soon_and_leaves_nothing_behind(uncached_server, make):
    server = uncached_server
    before = calls(server)
    expected = latent(server, make())
    full = calls(server) - before
    before = calls(server)
    prompt_id = server.client.queue(make())
    deadline = time.monotonic() + 60
    while calls(server) < before + 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    server.client.interrupt()
    seen = calls(server)
    with pytest.raises(PromptInterrupted):
        server.client.wait(prompt_id)
    assert calls(server) <= seen + 2
    assert calls(server) - before < full
    assert torch.equal(latent(server, make()), expected)
