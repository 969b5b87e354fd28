"""SEGA Report and the output of SEGA Sampler: what was said of a run, for nodes and in pictures' metadata."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import slider_runs
import tiny_models
import torch
from semantic_steering.guidance_core import Window
from semantic_steering.nodes.host.lora.fitting import fit
from semantic_steering.nodes.host.sliders.patch import Slider, with_slider
from semantic_steering.nodes.report import SEGAReport
from semantic_steering.nodes.sega import SEGAGuidance, SEGASampler

POSITIVE, NEGATIVE, TARGET = (tiny_models.stub_cond(i) for i in (1, 2, 3))
ARGUMENTS = (3, 10, 4.0, "euler", "normal", POSITIVE, NEGATIVE)


def latent():
    return {"samples": torch.zeros(1, *tiny_models.SIZE)}


def hidden(node, monkeypatch):
    """What the host gives a node of a prompt with a workflow."""
    metadata = {"workflow": {}}
    given = SimpleNamespace(extra_pnginfo=metadata, unique_id="7", prompt={"7": {"inputs": {}}})
    monkeypatch.setattr(node, "hidden", given)
    return metadata


def steered():
    return SEGAGuidance.execute(tiny_models.stub_model(), (tiny_models.concept(TARGET),)).args[0]


def test_it_says_what_the_run_did_and_hands_the_latent_on(monkeypatch):
    from nodes import common_ksampler

    metadata = hidden(SEGAReport, monkeypatch)
    (sampled,) = common_ksampler(steered(), *ARGUMENTS, latent())
    same, report = SEGAReport.execute(sampled).args
    assert same is sampled
    assert report.startswith("test: active in 10 of 10 steps, moved the picture by ")
    assert type(report) is str
    assert metadata == {"workflow": {}, "semantic_steering": {"7": report}}


@pytest.mark.parametrize("between", [lambda x: x, lambda x: {"samples": x["samples"] * 1}])
def test_of_a_latent_without_one_it_says_so(between):
    from nodes import common_ksampler

    model = tiny_models.stub_model() if between(x := latent()) is x else steered()
    (sampled,) = common_ksampler(model, *ARGUMENTS, latent())
    _, report = SEGAReport.execute(between(sampled)).args
    assert report.startswith("nothing of SEGA or sliders travels with this latent")


def test_a_slider_in_a_window_is_in_it(monkeypatch):
    layers = fit(slider_runs.FAMILY.model, None, slider_runs.ONE, "a slider")
    sampled = slider_runs.run(with_slider(slider_runs.FAMILY.model, Slider(layers, (1.0,), Window(0.0, 0.5))))
    _, report = SEGAReport.execute({"samples": sampled}).args
    assert report == "a slider: active in 3 of 6 steps"


def test_sega_sampler_has_it_as_an_output_and_in_the_metadata(monkeypatch):
    metadata = hidden(SEGASampler, monkeypatch)
    *_, report = SEGASampler.execute(
        tiny_models.stub_model(), *ARGUMENTS, latent(), concepts=(tiny_models.concept(TARGET),)
    ).args
    assert report.startswith("test: active in 10 of 10 steps, moved the picture by ")
    assert metadata["semantic_steering"] == {"7": report}


@pytest.mark.parametrize(
    ("concepts", "text"),
    [
        (None, "no concept is connected"),
        ((tiny_models.concept(TARGET, 0.0),), "test: switched off, +0 evaluations\n→ scale is 0"),
    ],
)
def test_sega_sampler_without_an_edit_says_so(concepts, text):
    assert SEGASampler.execute(tiny_models.stub_model(), *ARGUMENTS, latent(), concepts=concepts).args[3] == text


def test_without_concepts_the_tile_of_an_earlier_run_goes():
    assert SEGASampler.execute(tiny_models.stub_model(), *ARGUMENTS, latent()).ui == {"images": []}
