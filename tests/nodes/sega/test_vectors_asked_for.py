"""SEGA Sampler keeps vectors where a node takes them, and else nothing: asked for later, the run is made once more."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny_models
import torch
from semantic_steering.nodes.host.sega.vectors import ConceptVectors, Unrecorded
from semantic_steering.nodes.sega import SEGASampler
from semantic_steering.nodes.vectors import SEGAApplyVectors

POSITIVE, NEGATIVE = tiny_models.unet_cond(1), tiny_models.unet_cond(2)


def entry(**inputs):
    return {"class_type": "any", "inputs": inputs}


def sampled(prompt, unique_id="5", model=None):
    """The outputs of SEGA Sampler as that node of a prompt, and the batches of its forward passes."""
    node = type(
        "Hosted", (SEGASampler,), {"hidden": SimpleNamespace(prompt=prompt, unique_id=unique_id, extra_pnginfo=None)}
    )
    calls = tiny_models.recorded(tiny_models.unet_model() if model is None else model)
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    found = node.execute(
        calls.model, 3, 4, 3.0, "euler", "normal", POSITIVE, NEGATIVE, latent,
        concepts=(tiny_models.concept(tiny_models.unet_cond(3), 2.0, 0.8),),
    ).args[:3]  # fmt: skip
    return found, calls


LINKED = {"5": entry(seed=1), "6": entry(vectors=["5", 2])}
OTHERWISE = {"5": entry(seed=1), "6": entry(samples=["5", 0]), "7": entry(vectors=["4", 2]), "8": entry(text="5, 2")}
TELLS_NOTHING = {"none": (None, "5"), "made while the prompt runs": ({"5": entry()}, "5.0.1")}


def test_linked_vectors_are_those_of_the_run():
    (_, _, found), calls = sampled(LINKED)
    (_, _, directly), _ = sampled(None, None)
    assert isinstance(found, ConceptVectors)
    assert torch.equal(found.gamma, directly.gamma)
    assert len(calls.seen) == 4


@pytest.mark.parametrize(("prompt", "unique_id"), TELLS_NOTHING.values(), ids=TELLS_NOTHING)
def test_where_nothing_is_known_of_links_they_are_recorded(prompt, unique_id):
    assert isinstance(sampled(prompt, unique_id)[0][2], ConceptVectors)


def test_in_a_subgraph_too():
    assert isinstance(sampled({"2:5": entry(), "2:6": entry(vectors=["2:5", 2])}, "2:5")[0][2], ConceptVectors)
    assert isinstance(sampled({"2:5": entry(), "2:6": entry(vectors=["5", 2])}, "2:5")[0][2], Unrecorded)


def test_unlinked_they_are_not_kept_and_the_rest_has_the_same_bits():
    (latent, activity, found), _ = sampled(OTHERWISE)
    (expected, map_, _), _ = sampled(LINKED)
    assert isinstance(found, Unrecorded)
    assert torch.equal(latent["samples"], expected["samples"])
    assert torch.equal(activity, map_)
    assert not [value for value in vars(found).values() if isinstance(value, torch.Tensor)]


def test_asked_for_later_they_are_the_same(caplog):
    (_, _, found), calls = sampled(OTHERWISE)
    (_, _, expected), _ = sampled(LINKED)
    plain = tiny_models.unet_model()
    with caplog.at_level("INFO", "semantic_steering"):
        applied = [SEGAApplyVectors.execute(plain, vectors, 1.0).args[0] for vectors in (found, found, expected)]
    assert len(calls.seen) == 8  # once more, and only once
    assert "the run is made once more" in caplog.text
    assert torch.equal(found.recorded.gamma, expected.gamma)
    assert found.recorded.sigmas == expected.sigmas
    ends = [tiny_models.sample_cfg(m, POSITIVE, NEGATIVE, 3.0, tiny_models.noise(1, 4, 8, 8)) for m in applied]
    assert torch.equal(ends[0], ends[2])
