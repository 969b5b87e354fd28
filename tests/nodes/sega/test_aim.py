"""`aim` of SEGA Guidance: every concept gets the same size, its scale follows, and neutral stays neutral."""

from __future__ import annotations

import dataclasses

import pytest
import tiny_models
import torch
from semantic_steering.nodes.host.run import ksampler as sampling
from semantic_steering.nodes.host.sega.patch import patch_model
from semantic_steering.nodes.host.sega.settings import SEGASettings
from semantic_steering.nodes.sega import SEGAGuidance

POSITIVE, NEGATIVE, TARGET = (tiny_models.stub_cond(i) for i in (1, 2, 3))


def ran(*concepts, steps=10, **settings):
    """The state of a finished run, and its samples."""
    runs = []
    steered = patch_model(tiny_models.stub_model(), concepts, SEGASettings(**settings), runs.append)
    latent = {"samples": torch.zeros(1, *tiny_models.SIZE)}
    out = sampling.ksample(steered, 3, steps, 4.0, "euler", "normal", POSITIVE, NEGATIVE, latent, 1.0)
    return runs[0] if runs else None, out["samples"]


def test_at_zero_the_scales_are_used():
    concept = tiny_models.concept(TARGET, 1.0)
    assert torch.equal(ran(concept)[1], ran(concept, aim=0.0)[1])


def test_the_scale_follows_from_it_and_is_told():
    run, _ = ran(tiny_models.concept(TARGET, 5.0), aim=2.0)
    low, high = run.aimed.scales(0)
    assert 0 <= low < high <= 20
    assert f"scale {low:.2g} to {high:.2g}, moved the picture by " in run.verdict()


@pytest.mark.parametrize("steps", [5, 10, 25])
@pytest.mark.parametrize("start", [0.0, 0.3, 0.6])
def test_the_picture_moves_as_far_as_wanted_whatever_the_window(start, steps):
    run, _ = ran(tiny_models.concept(TARGET, 5.0, start=start), steps=steps, aim=0.5)
    (wanted,) = run.aimed._begins[0][1].tolist()
    assert run.report.measure.sizes()[0].moved == pytest.approx(wanted, rel=0.02)
    assert run.aimed.scales(0)[1] < 20


@pytest.mark.parametrize("scale", [-5.0, 5.0])
def test_the_sign_of_the_scale_stays(scale):
    run, samples = ran(tiny_models.concept(TARGET, scale), aim=2.0)
    _, plain = ran(tiny_models.concept(TARGET, 0.2 * scale))
    _, without = ran(tiny_models.concept(TARGET, 0.0))
    assert ((samples - without) * (plain - without)).sum() > 0
    assert run.report.measure.sizes()[0].moved > 0


def test_a_scale_of_ten_is_asked_for_twice_as_much():
    run, _ = ran(tiny_models.concept(TARGET, 5.0), tiny_models.concept(TARGET, 10.0), aim=1.0)
    assert run.aimed.aims == [1.0, 2.0]


def test_a_concept_at_scale_zero_stays_off():
    _, plain = ran(tiny_models.concept(TARGET, 0.0))
    assert torch.equal(ran(tiny_models.concept(TARGET, 0.0), aim=2.0)[1], plain)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aim": -0.1}, "aim is -0.1; it must be a number from 0 .off. to 10"),
        ({"aim": float("nan")}, "aim is nan"),
        ({"aim": 10.5}, "aim is 10.5"),
        ({"aim": 1.0, "momentum_scale": 0.1}, "aim is 1 and momentum_scale 0.1"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SEGAGuidance.execute(tiny_models.stub_model(), (tiny_models.concept(TARGET),), **settings)


def test_a_sweep_is_refused_before_anything_is_sampled():
    swept = dataclasses.replace(tiny_models.concept(TARGET), scale=(1.0,))
    with pytest.raises(ValueError, match=r"aim is 2 and the concepts are a SEGA Sweep's"):
        ran(swept, aim=2.0)
