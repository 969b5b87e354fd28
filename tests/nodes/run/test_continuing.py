"""Two samplers that share one schedule of one steered model are one run: momentum included."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from semantic_steering.nodes.sega import SEGAGuidance

from nodes import KSamplerAdvanced

POSITIVE, NEGATIVE = tiny_models.unet_cond(1), tiny_models.unet_cond(2)
STEPS = 8


def concepts(start=0.2):
    return (
        tiny_models.concept(tiny_models.unet_cond(3), 3.0, 0.5, start),
        tiny_models.concept(tiny_models.unet_cond(4), 2.0, 0.5, start + 0.3),
    )


def steered(momentum=0.5, **options):
    return SEGAGuidance.execute(tiny_models.unet_model(), concepts(**options), momentum_scale=momentum).args[0]


def run(model, start=0, end=10000, latent=None, noise="enable", leave="disable", seed=1, cfg=4.0):
    latent = {"samples": torch.zeros(1, 4, 8, 8)} if latent is None else latent
    return KSamplerAdvanced().sample(
        model, noise, seed, STEPS, cfg, "euler", "normal", POSITIVE, NEGATIVE, latent, start, end, leave
    )[0]


@pytest.mark.parametrize("cut", [1, 3, 5, 7])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_run_that_was_cut_is_the_whole_run(cut, momentum):
    model = steered(momentum)
    whole = run(model)["samples"]
    first = run(model, end=cut, leave="enable")
    second = run(model, start=cut, latent=first, noise="disable")["samples"]
    assert tiny_models.relative(second, whole) < 2e-6
    plain = run(tiny_models.unet_model())["samples"]
    assert tiny_models.relative(whole, plain) > 0.01


def test_the_momentum_counts():
    """So that the test above could fail: without what the first part leaves, the second one differs."""
    model = steered()
    whole, first = run(model)["samples"], run(model, end=4, leave="enable")
    first["samples"] = first["samples"].clone()  # as a node between the two samplers might
    assert tiny_models.relative(run(model, start=4, latent=first, noise="disable")["samples"], whole) > 1e-3


def test_the_same_first_part_can_be_continued_again_and_otherwise():
    """What ComfyUI's cache does: the first sampler's latent is used again, the second one's settings have changed."""
    model = steered()
    first = run(model, end=4, leave="enable")
    one = run(model, start=4, latent=first, noise="disable")["samples"]
    run(model, start=4, latent=first, noise="disable", cfg=7.0)
    run(model, end=3, leave="enable", seed=9)
    assert torch.equal(run(model, start=4, latent=first, noise="disable")["samples"], one)


@pytest.mark.parametrize(
    "second",
    [
        lambda model, first: run(model, start=5, latent=first, noise="disable"),  # another level
        lambda model, first: run(model, start=4, latent=first, noise="enable"),  # new noise
        lambda model, first: run(steered(), start=4, latent=first, noise="disable"),  # concepts of another node
    ],
    ids=["another level", "new noise", "another node"],
)
def test_what_does_not_continue_the_run_begins_anew(second):
    model = steered()
    first = run(model, end=4, leave="enable")
    copy = {"samples": first["samples"].clone()}
    assert torch.equal(second(model, first)["samples"], second(model, copy)["samples"])


def test_the_verdict_says_that_momentum_starts_anew(caplog):
    model = steered()
    first = run(model, end=5, leave="enable")
    with caplog.at_level("INFO", "semantic_steering"):
        run(model, start=5, latent=first, noise="disable")
        assert "anew" not in caplog.text
        run(model, start=5, latent={"samples": first["samples"].clone()}, noise="disable")
    assert "momentum starts anew: the latent is not straight from a sampler of this model" in caplog.text
