"""Bad input over HTTP: each is refused before sampling with its own text, and the server goes on working."""

from __future__ import annotations

import math

import pytest
from server_prompts import (
    CONCEPT,
    SETTINGS,
    assert_refused,
    assert_still_runs,
    concept,
    guided,
    node,
    sega_sampler,
    swept,
)

from devtools.server.client import PromptError

pytestmark = pytest.mark.server
FLOATS = ("scale", "start_percent", "threshold", "end_percent")


def conditioning_concept(width: int, **changes):
    """A prompt whose concept is a conditioning of this width."""
    prompt = guided()
    prompt["encoded"] = node("ProbeConditioning", width=width)
    prompt["concept"] = node("SEGAConceptConditioning", conditioning=["encoded", 0], **{**CONCEPT, **changes})
    return prompt


@pytest.mark.parametrize("text", ["", "  \n "])
def test_empty_text(server, text):
    assert_refused(server, guided(text=text), "concept", "text is empty")
    assert_still_runs(server)


def test_a_window_that_starts_after_its_end(server):
    prompt = guided(start_percent=0.7, end_percent=0.3)
    assert_refused(server, prompt, "start_percent", "0.7", "end_percent", "0.3")
    assert_still_runs(server)


@pytest.mark.parametrize("make", [guided, sega_sampler])
def test_a_conditioning_of_another_model_family(server, make):
    prompt = make()
    prompt |= {key: conditioning_concept(768)[key] for key in ("encoded", "concept")}
    assert_refused(server, prompt, "768 text features", "the positive has 32", "CLIP of this checkpoint")
    assert_still_runs(server)


@pytest.mark.parametrize("make", [guided, sega_sampler])
def test_a_latent_of_another_model_family(server, make):
    prompt = make()
    prompt["latent"] = node("ProbeLatent", channels=16)
    assert_refused(server, prompt, "latent_image has 16 channels", "4", "VAE")
    assert_still_runs(server)


def test_more_than_sixteen_concepts(server):
    prompt = guided()
    previous = "concept"
    for i in range(2, 17):
        prompt[f"concept {i}"] = concept(f"concept {i}")
        prompt[f"concept {i}"]["inputs"]["concepts"] = [previous, 0]
        previous = f"concept {i}"
    prompt["guidance"]["inputs"]["concepts"] = [previous, 0]
    server.client.run(prompt)  # sixteen are fine
    prompt["one more"] = concept("one more")
    prompt["one more"]["inputs"]["concepts"] = [previous, 0]
    prompt["guidance"]["inputs"]["concepts"] = ["one more", 0]
    assert_refused(server, prompt, "17 concepts", "at most 16")
    assert_still_runs(server)


@pytest.mark.parametrize("make", [guided, sega_sampler])
def test_a_packed_latent(server, make):
    prompt = make()
    prompt["other"] = node("EmptyLatentImage", width=64, height=64, batch_size=1)
    prompt["pixels"] = prompt["latent"]
    prompt["latent"] = node("LTXVConcatAVLatent", video_latent=["pixels", 0], audio_latent=["other", 0])
    assert_refused(server, prompt, "packed latent", "2 parts")
    assert_still_runs(server)


def test_a_dual_model_guider(server):
    prompt = guided()
    prompt["guider"] = node(
        "DualModelGuider", model=["guidance", 0], model_negative=["checkpoint", 0], positive=["positive", 0],
        negative=["negative", 0], cfg=4.0,
    )  # fmt: skip
    prompt["noise"] = node("RandomNoise", noise_seed=1)
    prompt["method"] = node("KSamplerSelect", sampler_name="euler")
    prompt["sigmas"] = node("BasicScheduler", model=["guidance", 0], scheduler="normal", steps=4, denoise=1.0)
    prompt["sampler"] = node(
        "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["method", 0], sigmas=["sigmas", 0],
        latent_image=["latent", 0],
    )  # fmt: skip
    assert_refused(server, prompt, "Dual Model CFG Guider")
    prompt["guider"]["inputs"].pop("model_negative")  # an ordinary guider
    server.client.run(prompt)
    assert_still_runs(server)


@pytest.mark.parametrize(
    ("scales", "words"),
    [
        ("", ["scales is empty", "write a number"]), (" , ;", ["scales is empty"]),
        ("1, two, 3", ["scales holds 'two'", "not a number", "commas"]), ("1 nan", ["scales holds nan", "-20 to 20"]),
        ("inf", ["scales holds inf", "-20 to 20"]), ("0, -20.5", ["scales holds -20.5", "-20 to 20"]),
    ],
)  # fmt: skip
def test_a_wrong_list_of_scales(server, scales, words):
    assert_refused(server, swept(scales=scales), *words)
    assert_still_runs(server)


def test_a_sweep_of_a_batch(server):
    prompt = swept()
    prompt["latent"]["inputs"]["batch_size"] = 2
    assert_refused(server, prompt, "latent_image is a batch of 2", "Latent From Batch")
    assert_still_runs(server)


def test_a_sweep_of_a_packed_latent(server):
    prompt = swept()
    prompt["other"], prompt["pixels"] = prompt["latent"], prompt["latent"]
    prompt["latent"] = node("LTXVConcatAVLatent", video_latent=["pixels", 0], audio_latent=["other", 0])
    assert_refused(server, prompt, "latent_image is a packed latent")
    assert_still_runs(server)


def test_a_sweep_whose_latent_is_not_connected_to_the_sampler(server):
    prompt = swept()
    prompt["sampler"]["inputs"]["latent_image"] = ["latent", 0]
    assert_refused(server, prompt, "3 scales", "a batch of 1", "latent output of SEGA Sweep")
    assert_still_runs(server)


@pytest.mark.parametrize("labels", ["one\ntwo", "one\ntwo\nthree\nfour"])
def test_another_number_of_labels_than_pictures(server, labels):
    with pytest.raises(PromptError) as refusal:
        server.client.run(swept(labels=labels))
    assert f"labels has {len(labels.splitlines())} lines, images has 3 pictures" in str(refusal.value)
    assert_still_runs(server)


# Every float input of every node: (the prompt, the node in it, the inputs).
FLOAT_INPUTS = [
    (guided, "concept", FLOATS),
    (lambda: conditioning_concept(32), "concept", FLOATS),
    (guided, "guidance", ("momentum_scale", "momentum_beta", "aim")),
    (sega_sampler, "sampler", ("cfg", "denoise", "momentum_scale", "momentum_beta")),
]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("make", "where", "names"), FLOAT_INPUTS, ids=["concept", "conditioning", "guidance", "sampler"]
)
def test_numbers_that_are_none(server, make, where, names, value):
    """The raw tokens NaN and Infinity: the host's own bounds let NaN through."""
    for name in names:
        prompt = make()
        assert name in prompt[where]["inputs"]
        prompt[where]["inputs"][name] = value
        bound = {math.nan: "nan", math.inf: "inf", -math.inf: "-inf"}[value] if value == value else "nan"
        assert_refused(server, prompt, name, bound)
    assert_still_runs(server)


def test_all_float_inputs_are_covered(object_info):
    tested = {"SEGAConcept": set(FLOATS), "SEGAConceptConditioning": set(FLOATS)}
    momentum = {name for name in SETTINGS if name.startswith("momentum")}
    tested |= {"SEGAGuidance": {"aim", *momentum}, "SEGASampler": {"cfg", "denoise", *momentum}}
    for name, names in tested.items():
        groups = object_info[name]["input"].values()
        assert {key for group in groups for key, spec in group.items() if spec[0] == "FLOAT"} == names
