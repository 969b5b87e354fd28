"""The edit models' node and workflow files inside a real server, on small random checkpoints of the real classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from server_prompts import (
    CONCEPT,
    INSTRUCT_PIX2PIX,
    KONTEXT,
    PICTURE,
    VAE,
    assert_refused,
    assert_still_runs,
    calls,
    latent,
    node,
)

from devtools.demo.demo import place
from devtools.demo.scenes import SIZE, SOMEONE, Scene, override, workflow_file
from devtools.host import prepare_comfyui
from devtools.server.client import Prompt
from devtools.server.results import fetch, with_previews
from devtools.server.workflows import load, to_prompt

pytestmark = pytest.mark.server

STEPS = 3


@pytest.fixture(scope="module", autouse=True)
def _edit_models(server):
    prepare_comfyui(cpu=True)
    from edit_checkpoints import write_edit_models

    write_edit_models(server.base / "models")


def instructed(**changes) -> Prompt:
    """InstructPix2Pix Guider behind SamplerCustomAdvanced, whose latent is saved."""
    scales = {"text_scale": 7.5, "image_scale": 1.5, **changes}
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=INSTRUCT_PIX2PIX),
        "picture": node("LoadImage", image=PICTURE),
        "instruction": node("CLIPTextEncode", text="make it winter", clip=["checkpoint", 1]),
        "negative": node("CLIPTextEncode", text="", clip=["checkpoint", 1]),
        "guider": node(
            "InstructPix2PixGuider", model=["checkpoint", 0], positive=["instruction", 0], negative=["negative", 0],
            vae=["checkpoint", 2], pixels=["picture", 0], **scales,
        ),
        "noise": node("RandomNoise", noise_seed=1),
        "method": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["checkpoint", 0], scheduler="normal", steps=STEPS, denoise=1.0),
        "sampler": node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["method", 0],
            sigmas=["sigmas", 0], latent_image=["guider", 1],
        ),
        "save": node("SaveLatent", samples=["sampler", 0], filename_prefix="test"),
    }  # fmt: skip


def dialled(scale: float = 8.0) -> Prompt:
    prompt = instructed()
    settings = {**CONCEPT, "scale": scale}
    prompt["concept"] = node("SEGAConcept", clip=["checkpoint", 1], text="deep snow", **settings)
    prompt["guider"]["inputs"]["concepts"] = ["concept", 0]
    return prompt


def from_file(server, object_info, name: str, **prompts: str) -> Prompt:
    """A workflow file's prompt with a portrait and small sizes; its checkpoint is the test's."""
    workflow, scene = load(workflow_file(name)), Scene(prompts, portrait=SOMEONE)
    picture = place(server.base, f"{name}.png", scene, seed=3)
    prompt = with_previews(to_prompt(workflow, object_info))
    return override(workflow, prompt, INSTRUCT_PIX2PIX, SIZE, scene, seed=3, picture=picture)


def compared(server, prompt: Prompt) -> list[np.ndarray]:
    return [np.asarray(picture) for picture in fetch(server.client, server.client.run(prompt))]


def only(prompt: Prompt, kind: str) -> dict:
    (found,) = (entry["inputs"] for entry in prompt.values() if entry["class_type"] == kind)
    return found


class TestInstructPix2Pix:
    def test_the_host_recognises_the_checkpoint(self, server):
        latent(server, instructed())
        assert "model_type EPS" in server.log()
        assert "SD15_instructpix2pix" in server.log()

    def test_every_step_is_one_call_with_and_without_concepts(self, server):
        plain, edited = [], []
        for prompt, found in ((instructed(text_scale=7.4), plain), (dialled(scale=7.9), edited)):
            before = calls(server)
            found.append(latent(server, prompt))
            assert calls(server) - before == STEPS
        assert (edited[0] - latent(server, instructed())).norm() > 0.01 * plain[0].norm()

    def test_a_neutral_concept_changes_no_bit(self, server):
        assert (latent(server, dialled(scale=0.0)) == latent(server, instructed())).all()

    @pytest.mark.parametrize("change", [{"text_scale": 3.0}, {"image_scale": 3.0}])
    def test_both_scales_act(self, server, change):
        plain = latent(server, instructed())
        assert (latent(server, instructed(**change)) - plain).norm() > 0.01 * plain.norm()

    def test_the_workflow_file_runs(self, server, object_info):
        prompt = from_file(server, object_info, "instruct_pix2pix", Instruction="make it winter")
        only(prompt, "BasicScheduler")["steps"] = STEPS
        before, after = compared(server, prompt)
        assert before.shape == after.shape == (SIZE, SIZE, 3)
        assert not np.array_equal(before, after)


class TestBadInput:
    def test_another_kind_of_model(self, server):
        prompt = instructed()
        prompt["other"] = node("CheckpointLoaderSimple", ckpt_name="random.safetensors")
        prompt["guider"]["inputs"]["model"] = ["other", 0]
        assert_refused(server, prompt, "model is BaseModel", "connect an InstructPix2Pix checkpoint")
        assert_still_runs(server)

    @pytest.mark.parametrize("name", ["text_scale", "image_scale"])
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_scales_that_are_no_numbers(self, server, name, value):
        assert_refused(server, instructed(**{name: value}), name, "nan" if math.isnan(value) else "inf")
        assert_still_runs(server)

    def test_a_scale_below_zero_over_a_link(self, server):
        prompt = instructed()
        prompt["linked"] = node("PrimitiveFloat", value=-1.0)
        prompt["guider"]["inputs"]["image_scale"] = ["linked", 0]
        assert_refused(server, prompt, "image_scale is -1.0", "0 or more")
        assert_still_runs(server)

    def test_another_familys_vae(self, server):
        prompt = instructed()
        prompt["other"] = node("VAELoader", vae_name=VAE)
        prompt["guider"]["inputs"]["vae"] = ["other", 0]
        assert_refused(server, prompt, "vae makes latents of 16 channels, this model's have 4")
        assert_still_runs(server)


class TestADialForEditModels:
    def prompt(self, server, object_info) -> Prompt:
        """The file with the small Flux. Its text encoder is the portraits': a T5 has no small size."""
        prompt = from_file(server, object_info, "edit_model_dial", Instruction="make it winter")
        only(prompt, "UNETLoader")["unet_name"] = KONTEXT
        only(prompt, "VAELoader")["vae_name"] = VAE
        (encoder,) = (key for key, entry in prompt.items() if entry["class_type"] == "DualCLIPLoader")
        prompt[encoder] = node("CheckpointLoaderSimple", ckpt_name="random.safetensors")
        for entry in prompt.values():
            if "clip" in entry["inputs"]:
                entry["inputs"]["clip"] = [encoder, 1]
            if entry["class_type"] == "KSampler":
                entry["inputs"]["steps"] = STEPS
            if entry["class_type"] == "FluxKontextImageScale":  # its sizes are all of a megapixel
                entry["class_type"] = "ImageScale"
                entry["inputs"] |= {"upscale_method": "lanczos", "width": SIZE, "height": SIZE, "crop": "disabled"}
        return prompt

    def test_the_workflow_file_runs(self, server, object_info):
        before_calls = calls(server)
        before, after = compared(server, self.prompt(server, object_info))
        assert calls(server) - before_calls == 2 * STEPS
        assert before.shape == after.shape == (SIZE, SIZE, 3)
        assert not np.array_equal(before, after)

    def test_at_scale_0_both_pictures_are_the_same(self, server, object_info):
        prompt = self.prompt(server, object_info)
        only(prompt, "SEGAConcept")["scale"] = 0.0
        before, after = compared(server, prompt)
        assert np.array_equal(before, after)

    def test_the_reference_reaches_the_model(self, server, object_info):
        prompt = self.prompt(server, object_info)
        before, _ = compared(server, prompt)
        only(prompt, "ReferenceLatent").pop("latent")
        other, _ = compared(server, prompt)
        assert not np.array_equal(before, other)
