"""Sliders through the real server: good files act, bad ones are refused with a text of their own."""

from __future__ import annotations

import math

import pytest
import torch
from server_prompts import assert_refused, assert_still_runs, calls, latent, node, plain, slider, slider_sweep

from devtools.host import has_accelerator

pytestmark = pytest.mark.server

BAD_FILES = {
    "other_widths.safetensors": ["fits no layer of this model (0 of 4)", "is 320x320, the model's layer 128x128",
                                 "another model family"],
    "other_names.safetensors": ["1 of 1 layers have no place in this model", "double_blocks_0_img_attn_qkv"],
    "nan.safetensors": ["attn1_to_q.lora_up.weight", "NaN or infinite weights"],
    "no_lora.safetensors": ["is no LoRA", "'weight'"],
    "truncated.safetensors": ["cannot be read", "incomplete"],
    "long_header.safetensors": ["cannot be read", "eader"],
    "huge_shape.safetensors": ["cannot be read"],
    "no_bytes.safetensors": ["cannot be read"],
    "huge_view.pt": ["claims the shape [1048576, 1048576], more than the file holds"],
    "code.pt": ["is refused", "no code of a file is run", ".safetensors"],
}  # fmt: skip


@pytest.mark.parametrize("make", [slider, slider_sweep])
@pytest.mark.parametrize("file", BAD_FILES)
def test_a_bad_file(server, make, file):
    assert_refused(server, make(file=file), file, *BAD_FILES[file])
    assert not (server.base / "models" / "loras" / "code-ran").exists()
    assert_still_runs(server)


@pytest.mark.parametrize("make", [slider, slider_sweep])
def test_an_unknown_file_and_none(server, make):
    assert_refused(server, make(file="missing.safetensors"), "lora_name", "missing.safetensors", "not in")
    assert_refused(server, make(file="none"), "lora_name is none", "choose a slider file")
    assert_still_runs(server)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_strength_that_is_no_number(server, value):
    assert_refused(server, slider(strength=value), "strength", "nan" if math.isnan(value) else "inf")
    assert_still_runs(server)


@pytest.mark.parametrize("make", [slider, slider_sweep])
@pytest.mark.parametrize("name", ["start_percent", "end_percent"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_window_that_is_no_number(server, make, name, value):
    assert_refused(server, make(**{name: value}), name, "nan" if math.isnan(value) else "inf")
    assert_still_runs(server)


@pytest.mark.parametrize("make", [slider, slider_sweep])
def test_a_window_that_starts_after_its_end(server, make):
    assert_refused(server, make(start_percent=0.7, end_percent=0.3), "start_percent 0.7", "end_percent 0.3")
    assert_still_runs(server)


@pytest.mark.parametrize(
    ("strengths", "words"),
    [
        ("", ["strengths is empty"]), (" , ", ["strengths is empty"]), ("1, much", ["strengths holds 'much'"]),
        ("nan", ["strengths holds nan"]), ("0, 21", ["strengths holds 21", "-20 to 20"]),
    ],
)  # fmt: skip
def test_a_wrong_list_of_strengths(server, strengths, words):
    assert_refused(server, slider_sweep(strengths=strengths), *words)
    assert_still_runs(server)


def test_a_sweep_of_a_batch_and_a_sweep_without_its_latent(server):
    prompt = slider_sweep()
    prompt["latent"]["inputs"]["batch_size"] = 2
    assert_refused(server, prompt, "latent_image is a batch of 2", "Latent From Batch")
    prompt = slider_sweep()
    prompt["sampler"]["inputs"]["latent_image"] = ["latent", 0]
    assert_refused(server, prompt, "sweep of 3 strengths", "batch of 1", "latent output")
    assert_still_runs(server)


def test_the_clip_output_without_a_clip_input(server):
    prompt = slider()
    prompt["positive"]["inputs"]["clip"] = ["slider", 1]
    assert_refused(server, prompt, "positive", "clip input is not connected", "Connect the checkpoint's CLIP")
    prompt["slider"]["inputs"]["clip"] = ["checkpoint", 1]
    latent(server, prompt)
    assert_still_runs(server)


def test_the_text_encoder_half_acts_where_clip_is_connected(server):
    results = []
    for file, strength in (("good.safetensors", 1.0), ("with_text.safetensors", 1.0), ("with_text.safetensors", 0.0)):
        prompt = slider(seed=3, file=file, strength=strength)
        prompt["slider"]["inputs"]["clip"] = ["checkpoint", 1]
        prompt["positive"]["inputs"]["clip"] = ["slider", 1]
        results.append(latent(server, prompt))
    without, with_text, off = results
    assert not torch.equal(without, with_text)
    assert torch.equal(off, latent(server, plain(seed=3)))


def test_files_that_fit_act_and_the_rest_of_the_run_is_the_same(server):
    bare = latent(server, plain(seed=4))
    found = {file: latent(server, slider(seed=4, file=file)) for file in ("good.safetensors", "partly.safetensors")}
    assert not torch.equal(found["good.safetensors"], bare)
    assert torch.equal(found["partly.safetensors"], found["good.safetensors"])
    rounded = latent(server, slider(seed=4, file="authors.pt"))  # bfloat16
    assert (rounded - found["good.safetensors"]).norm() < 0.1 * (found["good.safetensors"] - bare).norm()
    assert torch.equal(latent(server, slider(seed=4, strength=0.0)), bare)


def test_a_sweep_is_one_run_and_its_entries_are_the_single_runs(server):
    before = calls(server)
    prompt = slider_sweep(seed=5)
    swept = latent(server, prompt)
    assert calls(server) - before == prompt["sampler"]["inputs"]["steps"]
    for entry, strength in zip(swept, (-1.0, 0.0, 1.0), strict=True):
        single = latent(server, slider(seed=5, strength=strength))[0]
        assert (entry - single).norm() < 1e-4 * single.norm()


def test_the_same_bits_again_and_a_bare_run_in_between(uncached_server):
    server, prompts = uncached_server, (slider(seed=6), slider_sweep(seed=6), plain(seed=6))
    first = [latent(server, prompt) for prompt in prompts]
    for _ in range(2):
        for prompt, expected in zip(prompts, first, strict=True):
            assert torch.equal(latent(server, prompt), expected)


def test_a_slider_that_is_connected_wins_over_a_file(server):
    """TrainLoraNode's output type, here from the loader of the probe."""
    prompt = slider(seed=7, file="with_text.safetensors")
    prompt["made"] = node("ProbeSlider", file="good.safetensors")
    prompt["slider"]["inputs"]["slider"] = ["made", 0]
    found = latent(server, prompt)
    assert torch.equal(found, latent(server, slider(seed=7)))
    assert "the connected slider is used" in server.log()


def test_what_matched_is_said(server):
    latent(server, slider(seed=8, file="partly.safetensors"))
    assert "matched 4 of 5 layers, 3 tensors not used: lora_unet_input_blocks_77" in server.log()
    latent(server, slider(seed=8, file="with_text.safetensors"))
    assert "its text-encoder half (1 layers) is not used: connect clip" in server.log()


@pytest.mark.gpu
@pytest.mark.skipif(not has_accelerator(), reason="the host's dynamic memory management never runs on a CPU")
def test_an_edge_under_dynamic_memory_management(uncached_server):
    server = uncached_server
    bare, switched, swept = plain(seed=9), slider(seed=9, start_percent=0.4), slider_sweep(seed=9, start_percent=0.4)
    first = [latent(server, prompt) for prompt in (bare, switched, swept)]
    assert "prepared for dynamic VRAM loading" in server.log()
    for prompt, expected in zip((swept, bare, switched, bare), (first[2], first[0], first[1], first[0]), strict=True):
        assert torch.equal(latent(server, prompt), expected)
    assert (first[1] - first[0]).norm() > 0.01 * first[0].norm()
    assert (first[2][2:] - first[1]).norm() < 0.01 * first[1].norm()  # half precision, another way of acting
