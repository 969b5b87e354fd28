"""Prompts for the server tests, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from devtools.client import Prompt, PromptError
from devtools.server import Server

SETTINGS = {"momentum_scale": 0.1, "momentum_beta": 0.4, "threshold_over": "channel", "base": "auto"}
SAMPLING = {"steps": 4, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
CONCEPT = {"direction": "add", "scale": 8.0, "start_percent": 0.0, "threshold": 0.5, "end_percent": 1.0}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def plain(seed: int = 1) -> Prompt:
    """A stock KSampler whose latent is saved."""
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name="random.safetensors"),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "positive": node("CLIPTextEncode", text="a portrait of a woman", clip=["checkpoint", 1]),
        "negative": node("CLIPTextEncode", text="", clip=["checkpoint", 1]),
        "sampler": node(
            "KSampler", model=["checkpoint", 0], seed=seed, positive=["positive", 0], negative=["negative", 0],
            latent_image=["latent", 0], **SAMPLING,
        ),
        "save": node("SaveLatent", samples=["sampler", 0], filename_prefix="test"),
    }  # fmt: skip


def concept(text: str = "glasses", **changes: Any) -> dict[str, Any]:
    return node("SEGAConcept", clip=["checkpoint", 1], text=text, **{**CONCEPT, **changes})


def guided(seed: int = 1, **changes: Any) -> Prompt:
    """The same through SEGA Guidance with one concept."""
    prompt = plain(seed)
    prompt["concept"] = concept(**changes)
    prompt["guidance"] = node("SEGAGuidance", model=["checkpoint", 0], concepts=["concept", 0], **SETTINGS)
    prompt["sampler"]["inputs"]["model"] = ["guidance", 0]
    return prompt


def sega_sampler(seed: int = 1, **changes: Any) -> Prompt:
    """The same through SEGA Sampler."""
    prompt = plain(seed)
    prompt["concept"] = concept(**changes)
    inputs = {**prompt["sampler"]["inputs"], **SETTINGS, "concepts": ["concept", 0]}
    prompt["sampler"] = node("SEGASampler", **inputs)
    return prompt


def latent(server: Server, prompt: Prompt) -> torch.Tensor:
    """Run a prompt; its latent, as saved."""
    (saved,) = server.client.run(prompt)["save"]["latents"]
    return load_file(server.base / "output" / saved["subfolder"] / saved["filename"])["latent_tensor"]


def calls(server: Server) -> int:
    """How often the server has evaluated a model so far."""
    return json.loads(server.client.get("/probe/calls"))


def assert_refused(server: Server, prompt: Prompt, *words: str) -> None:
    """The prompt fails before sampling, with a text that says all of this."""
    before = calls(server)
    with pytest.raises(PromptError) as refusal:
        server.client.run(prompt)
    for word in words:
        assert word in str(refusal.value)
    assert calls(server) == before


_seeds = iter(range(10_000, 20_000))


def assert_still_runs(server: Server) -> None:
    """A good prompt that no cache knows still gives a finite latent."""
    before = calls(server)
    assert latent(server, guided(seed=next(_seeds))).isfinite().all()
    assert calls(server) > before
