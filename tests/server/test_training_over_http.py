"""Training through the real server: what comes out of it, what is refused, and what Cancel and the page's own button
leave."""

from __future__ import annotations

import json
import math
import shutil
import time
import urllib.error

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from server_prompts import (
    assert_refused,
    assert_still_runs,
    calls,
    guided,
    latent,
    node,
    pairs_trained,
    plain,
    slider,
    subject_trained,
    trained,
)

from devtools.server.client import PromptError, PromptInterrupted

pytestmark = pytest.mark.server

LONG = 400  # steps that no test waits for


@pytest.fixture(autouse=True)
def kept(server):
    """The folder of what is kept, empty."""
    folder = server.base / "output" / "loras"
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def saved(prompt):
    """With the core's file of the slider, and its loss graph."""
    prompt["file"] = node("SaveLoRA", lora=["train", 0], prefix="loras/core")
    prompt["graph"] = node("LossGraphNode", loss=["train", 1], filename_prefix="loss")
    return prompt


def test_a_slider_and_what_the_cores_nodes_make_of_it(server, kept):
    plain_latent = latent(server, plain())
    outputs = server.client.run(saved(trained()))
    (strip,) = outputs["train"]["images"]
    assert strip["filename"].endswith(".png")
    assert outputs["graph"]["images"]
    (file,) = kept.glob("core*.safetensors")
    tensors = load_file(file)
    assert any(name.endswith("lora_up.weight") and value.any() for name, value in tensors.items())
    assert torch.equal(latent(server, plain()), plain_latent)
    # In our loader by its socket, and in the stock one by its file.
    through = plain()
    through |= trained()
    through["slider"] = node(
        "SliderLoRALoader", model=["checkpoint", 0], slider=["train", 0], lora_name="none", strength=4.0,
        start_percent=0.0, end_percent=1.0, apply_to="both",
    )  # fmt: skip
    through["sampler"]["inputs"]["model"] = ["slider", 0]
    ours = latent(server, through)
    target = server.base / "models" / "loras" / "core.safetensors"
    shutil.copy(file, target)
    try:
        stock = plain()
        stock["slider"] = node(
            "LoraLoaderModelOnly", model=["checkpoint", 0], lora_name="core.safetensors", strength_model=4.0
        )
        stock["sampler"]["inputs"]["model"] = ["slider", 0]
        assert torch.allclose(latent(server, stock), ours, atol=1e-3)
    finally:
        target.unlink()
    assert not torch.allclose(ours, plain_latent, atol=1e-2)
    assert list(kept.glob("*.training")) == []


def behind_a_clip(prompt, of):
    for name in ("positive", "negative"):
        prompt[name]["inputs"]["clip"] = of
    return prompt


def test_a_slider_in_the_text_encoder_in_our_loader_and_the_stock_one(server, kept):
    """The model is not asked for it but for the strips; both prompts are encoded behind it, as by the core's loader."""
    plain_latent = latent(server, plain())
    train = trained(train="text encoder", show_every=100)
    server.client.run(saved(train))
    (file,) = kept.glob("core*.safetensors")
    tensors = load_file(file)
    assert all(name.startswith("lora_te_text_model_encoder_layers_") for name in tensors)
    through = plain() | train
    through["slider"] = node(
        "SliderLoRALoader", model=["checkpoint", 0], clip=["checkpoint", 1], slider=["train", 0], lora_name="none",
        strength=4.0, start_percent=0.2, end_percent=1.0, apply_to="both",
    )  # fmt: skip
    ours = latent(server, behind_a_clip(through, ["slider", 1]))
    target = server.base / "models" / "loras" / "core.safetensors"
    shutil.copy(file, target)
    try:
        stock = plain()
        stock["slider"] = node(
            "LoraLoader", model=["checkpoint", 0], clip=["checkpoint", 1], lora_name="core.safetensors",
            strength_model=0.0, strength_clip=4.0,
        )  # fmt: skip
        assert torch.allclose(latent(server, behind_a_clip(stock, ["slider", 1])), ours, atol=1e-3)
    finally:
        target.unlink()
    assert not torch.allclose(ours, plain_latent, atol=1e-2)
    assert torch.equal(latent(server, plain()), plain_latent)


BAD = {
    "no positive": ({"positive": " "}, ["positive has no text"]),
    "no negative": ({"negative": ""}, ["negative has no text"]),
    "alike": ({"negative": "a portrait of a person with glasses"}, ["positive and negative are the same"]),
    "preserved pole": ({"preserve": "man\nA portrait of a person with no glasses"}, ["preserve holds", "is negative"]),
    "rate of zero": ({"learning_rate": 0.0}, ["learning_rate"]),
    "negative rate": ({"learning_rate": -0.1}, ["learning_rate"]),
    "rate that is no number": ({"learning_rate": math.nan}, ["learning_rate is nan", "above 0"]),
    "guidance that is no number": ({"guidance": math.nan}, ["guidance is nan", "above 0"]),
    "infinite guidance": ({"guidance": math.inf}, ["guidance"]),
    "alpha that is no number": ({"alpha": math.nan}, ["alpha is nan"]),
    "cfg that is no number": ({"cfg": math.nan}, ["cfg is nan"]),
    "rank": ({"rank": 1000}, ["rank is 1000", "more than the", "smallest layer"]),
    "steps": ({"steps": 0}, ["steps"]),
    "batch": ({"batch_size": 0}, ["batch_size"]),
    "range": ({"start_percent": 0.6, "end_percent": 0.6}, ["leaves no noise levels"]),
    "range that is no number": ({"end_percent": math.nan}, ["leaves no noise levels"]),
    "layers": ({"layers": "some"}, ["layers"]),
    "width": ({"width": 4}, ["width is 4", "at least 8"]),
    "what to train": ({"train": "vae"}, ["train"]),
    "layers of a text encoder": (
        {"train": "text encoder", "layers": "cross-attention"},
        ["layers is 'cross-attention'", "this clip", "has none"],
    ),
    "rank of a text encoder": ({"train": "text encoder", "rank": 1000}, ["rank is 1000", "clip_l."]),
    "no pole for a text encoder": ({"train": "text encoder", "positive": ""}, ["positive has no text"]),
}


@pytest.mark.parametrize(("changes", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_the_first_step(server, kept, changes, words):
    before = latent(server, guided())
    assert_refused(server, trained(**changes), *words)
    assert torch.equal(latent(server, guided(seed=1)), before)
    assert_still_runs(server)
    assert not kept.exists()


def test_a_model_that_is_steered_is_refused(server):
    prompt = trained() | {key: value for key, value in guided().items() if key not in ("sampler", "save", "latent")}
    prompt["train"]["inputs"]["model"] = ["guidance", 0]
    assert_refused(server, prompt, "model already carries", "a training needs the unsteered model")
    prompt = trained() | {"slider": slider()["slider"]}
    prompt["train"]["inputs"]["model"] = ["slider", 0]
    assert_refused(server, prompt, "model already carries a slider with a window")
    assert_still_runs(server)


def test_going_on_from_a_slider_of_another_rank_is_refused(server):
    prompt = trained()
    prompt["again"] = node("SliderTrainText", **{**prompt["train"]["inputs"], "rank": 3, "slider": ["train", 0]})
    with pytest.raises(PromptError, match="set rank as it was when that slider was trained"):
        server.client.run(prompt)
    assert_still_runs(server)


def wait_for_steps(server, more: int) -> None:
    """Until the model has been asked so often after the training began."""
    start, deadline = calls(server), time.monotonic() + 120
    while calls(server) < start + more:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_cancel_keeps_the_slider_and_the_next_run_goes_on_from_it(server, kept):
    plain_latent = latent(server, plain())
    prompt = saved(trained(steps=LONG))
    queued = server.client.queue(prompt)
    wait_for_steps(server, 40)
    server.client.interrupt()
    with pytest.raises(PromptInterrupted):
        server.client.wait(queued)
    (file,) = kept.glob("*.safetensors")
    (state,) = kept.glob("*.training")
    with safe_open(file, "pt") as opened:
        header = opened.metadata()
    step = int(file.stem.rpartition("_")[2])
    assert 0 < step < LONG
    assert header["state"] == f"interrupted at step {step}"
    assert header["positive"] == prompt["train"]["inputs"]["positive"]
    assert header["comfyui"]
    assert torch.equal(latent(server, plain()), plain_latent)
    # On to a later step, and in one go: the same to the last bit.
    server.client.run(saved(trained(steps=step + 3)))
    assert not state.exists()
    (resumed,) = kept.glob("core*.safetensors")
    gone_on = load_file(resumed)
    shutil.rmtree(kept)
    whole = saved(trained(steps=step + 3))
    whole["train"]["inputs"]["show_every"] = 3  # so that nothing comes from the cache
    server.client.run(whole)
    (file,) = kept.glob("core*.safetensors")
    at_once = load_file(file)
    assert at_once.keys() == gone_on.keys()
    assert all(torch.equal(value, gone_on[name]) for name, value in at_once.items())


def finish(server, node_id: object) -> None:
    server.client.json("/semantic-steering/finish", {"node": node_id})


def test_the_pages_own_button_ends_the_training_and_the_prompt_goes_on(server, kept):
    queued = server.client.queue(saved(trained(steps=LONG)))
    wait_for_steps(server, 40)
    finish(server, "train")
    outputs = server.client.wait(queued)["outputs"]
    assert outputs["train"]["images"]
    assert outputs["graph"]["images"]
    assert list(kept.glob("core*.safetensors"))
    (state,) = kept.glob("*.training")  # with more steps it goes on
    step = int(state.stem.rpartition("_")[2])
    assert 0 < step < LONG
    before = calls(server)
    server.client.run(trained(steps=step + 1))
    assert calls(server) - before < 120  # the bank, one step and one strip
    assert not state.exists()


@pytest.mark.parametrize(("body", "code"), [({"node": "train"}, 404), ({"node": 3}, 400), ({}, 400), ([], 400)])
def test_finishing_what_does_not_train_is_answered(server, body, code):
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.client.json("/semantic-steering/finish", body)
    assert refused.value.code == code
    assert json.loads(refused.value.read())["error"]


@pytest.mark.parametrize("prompt", [
    pairs_trained(), pairs_trained(conditioning=None), pairs_trained(strengths="0.5, 2"),
    subject_trained(), subject_trained(prior="output"), subject_trained(prior_weight=0.0),
])  # fmt: skip
def test_pairs_and_subjects_are_trained(server, kept, prompt):
    if prompt["train"]["inputs"].get("conditioning", 0) is None:
        del prompt["train"]["inputs"]["conditioning"]
    plain_latent = latent(server, plain())
    outputs = server.client.run(saved(prompt))
    assert outputs["train"]["images"]
    (file,) = kept.glob("core*.safetensors")
    assert any(name.endswith("lora_up.weight") and value.any() for name, value in load_file(file).items())
    assert torch.equal(latent(server, plain()), plain_latent)


def with_input(prompt, kind, **inputs):
    """A prompt with another node before one of the training's inputs."""
    ((name, entry),) = inputs.items()
    return {**prompt, "bad": kind, "train": {**prompt["train"], "inputs": {**prompt["train"]["inputs"], name: entry}}}


EMPTY = {"width": 64, "height": 64, "batch_size": 3}
BAD_PICTURES = {
    "pair counts": (with_input(pairs_trained(), node("EmptyLatentImage", **EMPTY), after=["bad", 0]),
                    ["before is 2x4x8x8, after is 3x4x8x8"]),
    "sizes": (with_input(pairs_trained(), node("EmptyLatentImage", **{**EMPTY, "width": 128}), after=["bad", 0]),
              ["as many pictures of the same size"]),
    "strengths": (pairs_trained(strengths="1, 2, 3"), ["strengths has 3 numbers for 2 pairs"]),
    "strength of zero": (pairs_trained(strengths="1, 0"), ["strengths is 1, 0", "other than 0"]),
    "no number": (pairs_trained(strengths="one"), ["strengths holds 'one'"]),
    "class sizes": (with_input(subject_trained(), node("EmptyLatentImage", **{**EMPTY, "width": 128}),
                               class_latents=["bad", 0]), ["pictures of different sizes"]),
    "no identifier": (with_input(subject_trained(), node("CLIPTextEncode", text="a portrait of a bald man with glasses",
                                                         clip=["checkpoint", 1]), class_conditioning=["bad", 0]),
                      ["are the same to this model"]),
    "weight": (subject_trained(prior_weight=math.nan), ["prior_weight is nan"]),
    "a part of the run": (with_input(subject_trained(), node("ConditioningSetTimestepRange", conditioning=["other", 0],
                                                             start=0.5, end=1.0), instance_conditioning=["bad", 0]),
                          ["instance_conditioning has 'start_percent'", "plain CLIP Text Encode"]),
}  # fmt: skip


@pytest.mark.parametrize(("prompt", "words"), BAD_PICTURES.values(), ids=BAD_PICTURES)
def test_bad_pictures_are_refused(server, kept, prompt, words):
    with pytest.raises(PromptError) as refusal:
        server.client.run(prompt)
    for word in words:
        assert word in str(refusal.value)
    assert_still_runs(server)
    assert not kept.exists()
