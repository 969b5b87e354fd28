"""Prompts for the server tests, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from devtools.server.client import Prompt, PromptError
from devtools.server.server import Server

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
    prompt["guidance"] = node("SEGAGuidance", model=["checkpoint", 0], concepts=["concept", 0], aim=0.0, **SETTINGS)
    prompt["sampler"]["inputs"]["model"] = ["guidance", 0]
    return prompt


def sega_sampler(seed: int = 1, **changes: Any) -> Prompt:
    """The same through SEGA Sampler."""
    prompt = plain(seed)
    prompt["concept"] = concept(**changes)
    inputs = {**prompt["sampler"]["inputs"], **SETTINGS, "concepts": ["concept", 0]}
    prompt["sampler"] = node("SEGASampler", **inputs)
    return prompt


def swept(seed: int = 1, scales: str = "-6, 0, 6", labels: str | None = None, **changes: Any) -> Prompt:
    """One picture at several scales, decoded and side by side. labels: instead of the sweep's own."""
    prompt = guided(seed, **changes)
    prompt["sweep"] = node("SEGASweep", concepts=["concept", 0], latent_image=["latent", 0], scales=scales)
    prompt["guidance"]["inputs"]["concepts"] = ["sweep", 0]
    prompt["sampler"]["inputs"]["latent_image"] = ["sweep", 1]
    prompt["pictures"] = node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2])
    prompt["strip"] = node("LabelledStrip", images=["pictures", 0], labels=["sweep", 2] if labels is None else labels)
    prompt["show"] = node("SaveImage", images=["strip", 0], filename_prefix="strip")
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


INVERT = {
    "steps": 4, "scheduler": "normal", "denoise": 1.0, "cfg": 1.0, "method": "fixed point", "iterations": 8, "seed": 0,
}  # fmt: skip
MASK = {"strength": 0.5, "threshold": 0.5, "grow": 0, "blur": 0, "maps": 2, "clamp": 2.0, "seed": 0}
PICTURE = "picture.png"
INSTRUCT_PIX2PIX, KONTEXT, VAE = "instruct.safetensors", "kontext.safetensors", "vae16.safetensors"  # edit_models.py


def inverted(**changes: Any) -> Prompt:
    """A picture from the input folder, encoded and inverted without a prompt."""
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name="random.safetensors"),
        "picture": node("LoadImage", image=PICTURE),
        "latent": node("VAEEncode", pixels=["picture", 0], vae=["checkpoint", 2]),
        "empty": node("CLIPTextEncode", text="", clip=["checkpoint", 1]),
        "invert": node(
            "DDIMInvert", model=["checkpoint", 0], positive=["empty", 0], latent_image=["latent", 0],
            **{**INVERT, **changes},
        ),
        "save": node("SaveLatent", samples=["invert", 3], filename_prefix="test"),
    }  # fmt: skip


def masked(**changes: Any) -> Prompt:
    """The mask that two texts give on that picture."""
    prompt = inverted()
    del prompt["invert"], prompt["save"]
    prompt["source"] = node("CLIPTextEncode", text="a portrait of a woman", clip=["checkpoint", 1])
    prompt["target"] = node("CLIPTextEncode", text="a portrait of a bald man with glasses", clip=["checkpoint", 1])
    prompt["mask"] = node(
        "DiffEditMask", model=["checkpoint", 0], source=["source", 0], target=["target", 0],
        latent_image=["latent", 0], image=["picture", 0], **{**MASK, **changes},
    )  # fmt: skip
    prompt["shown"] = node("MaskToImage", mask=["mask", 0])
    prompt["save"] = node("SaveImage", images=["shown", 0], filename_prefix="mask")
    return prompt


def decoded(mask: dict[str, Any] | None = None, **changes: Any) -> Prompt:
    """That picture with a new prompt inside a mask (none given: all of it). changes: DDIM Invert's inputs."""
    prompt = inverted(**changes)
    prompt["target"] = node("CLIPTextEncode", text="a portrait of a bald man with glasses", clip=["checkpoint", 1])
    prompt["mask"] = mask or node("SolidMask", value=1.0, width=64, height=64)
    prompt["edit"] = node(
        "DiffEditSampler", model=["checkpoint", 0], positive=["target", 0], negative=["empty", 0],
        inversion=["invert", 0], mask=["mask", 0], cfg=5.0,
    )  # fmt: skip
    prompt["save"]["inputs"]["samples"] = ["edit", 0]
    return prompt


def continued(latent_image: str = "latent", **changes: Any) -> Prompt:
    """The inversion's noise and sigmas through SamplerCustomAdvanced."""
    prompt = inverted(**changes)
    prompt["guider"] = node("BasicGuider", model=["checkpoint", 0], conditioning=["empty", 0])
    prompt["method"] = node("KSamplerSelect", sampler_name="euler")
    prompt["decode"] = node(
        "SamplerCustomAdvanced", noise=["invert", 1], guider=["guider", 0], sampler=["method", 0],
        sigmas=["invert", 2], latent_image=[latent_image, 0],
    )  # fmt: skip
    prompt["save"]["inputs"]["samples"] = ["decode", 0]
    return prompt


def slider(seed: int = 1, file: str = "good.safetensors", **changes: Any) -> Prompt:
    """A stock KSampler behind Slider LoRA Loader."""
    prompt = plain(seed)
    settings = {"strength": 1.0, "start_percent": 0.2, "end_percent": 1.0, "apply_to": "both", **changes}
    prompt["slider"] = node("SliderLoRALoader", model=["checkpoint", 0], lora_name=file, **settings)
    prompt["sampler"]["inputs"]["model"] = ["slider", 0]
    return prompt


def slider_sweep(seed: int = 1, file: str = "good.safetensors", **changes: Any) -> Prompt:
    """The same behind Slider Sweep."""
    prompt = plain(seed)
    settings = {"strengths": "-1, 0, 1", "start_percent": 0.2, "end_percent": 1.0, **changes}
    prompt["slider"] = node(
        "SliderSweep", model=["checkpoint", 0], latent_image=["latent", 0], lora_name=file, **settings
    )
    prompt["sampler"]["inputs"] |= {"model": ["slider", 0], "latent_image": ["slider", 1]}
    return prompt


TRAINING = {
    "steps": 4, "rank": 2, "alpha": 1.0, "layers": "no cross-attention", "learning_rate": 0.01, "batch_size": 1,
    "start_percent": 0.0, "end_percent": 0.3, "show_every": 2, "seed": 3, "cfg": 1.0,
}  # fmt: skip
TEXTS = {
    "target": "a portrait of a person", "positive": "a portrait of a person with glasses",
    "negative": "a portrait of a person with no glasses", "preserve": "", "guidance": 2.0, "width": 64, "height": 64,
}  # fmt: skip


def trained(**changes: Any) -> Prompt:
    """A text slider in training, and what the core's nodes make of it."""
    inputs = {**TEXTS, **TRAINING, **changes}
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name="random.safetensors"),
        "train": node("SliderTrainText", model=["checkpoint", 0], clip=["checkpoint", 1], **inputs),
    }


def pairs_trained(count: int = 2, **changes: Any) -> Prompt:
    """A slider of pictures in pairs: those of one prompt and of another."""
    prompt = plain()
    del prompt["save"]
    prompt["latent"]["inputs"]["batch_size"] = count
    prompt["other"] = node("CLIPTextEncode", text="a portrait of a bald man with glasses", clip=["checkpoint", 1])
    prompt["sampler"]["inputs"]["steps"] = 2
    prompt["after"] = node("KSampler", **{**prompt["sampler"]["inputs"], "positive": ["other", 0]})
    inputs = {"strengths": "", "conditioning": ["positive", 0], **TRAINING, "end_percent": 1.0, **changes}
    prompt["train"] = node(
        "SliderTrainImages", model=["checkpoint", 0], before=["sampler", 0], after=["after", 0], **inputs
    )
    return prompt


def subject_trained(count: int = 2, **changes: Any) -> Prompt:
    """A subject of a few pictures."""
    prompt = pairs_trained(count)
    del prompt["after"]
    inputs = {"prior_weight": 1.0, "prior": "pictures", **TRAINING, "layers": "all linear", "end_percent": 1.0}
    prompt["train"] = node(
        "DreamBoothTrain", model=["checkpoint", 0], instance=["sampler", 0], instance_conditioning=["other", 0],
        class_conditioning=["positive", 0], **{**inputs, **changes},
    )  # fmt: skip
    return prompt
