"""A short campaign of `dev.py fuzz` with a fixed seed, and that a campaign notices what it is there for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from devtools.fuzz.campaign import Campaign
from devtools.fuzz.fuzz import prepared
from devtools.fuzz.graphs import Graph, around, odd
from devtools.fuzz.outcome import tried
from devtools.server.server import Server, link

pytestmark = pytest.mark.server
HERE = Path(__file__).parent
PROMPTS, MINUTES = 200, 4


@pytest.fixture(scope="module")
def campaign(tmp_path_factory, checkpoint):
    base = prepared(tmp_path_factory.mktemp("fuzz"), checkpoint)
    link(base / "custom_nodes" / "faulty", HERE / "faulty")
    with Server(base) as server:
        yield Campaign(server, seed=3)


def test_a_short_campaign_finds_nothing(campaign):
    report = campaign.run(time.monotonic() + 60 * MINUTES, PROMPTS)
    assert report.findings == []
    assert report.prompts == PROMPTS, "slower than ever seen"
    assert {"refused by the host", "refused in words", "ran"} <= report.outcomes.keys()


def test_every_node_and_input_is_tried(campaign):
    """A new one is by existing."""
    places = {what.split(" ")[0] for what, *_ in campaign.wrong_values()}
    linked = {what.split(" ")[0] for what, *_ in campaign.odd_values()}
    inputs = {f"{name}.{field}" for name in campaign.nodes.ours for field, *_ in campaign.nodes.inputs(name)}
    assert places == inputs and len(campaign.nodes.ours) > 15
    assert {place for place in inputs if place.split(".")[1] in ("latent_image", "mask", "images", "slider")} <= linked


@pytest.mark.parametrize(
    ("node", "field", "kind"),
    [("SEGASampler", "latent_image", "LATENT"), ("DiffEditSampler", "mask", "MASK"),
     ("LabelledStrip", "images", "IMAGE"),
     ("SEGAConceptConditioning", "conditioning", "CONDITIONING"), ("SliderLoRALoader", "slider", "LORA_MODEL"),
     ("DDIMInvert", "sigmas", "SIGMAS"), ("SEGAConcept", "text", "STRING")],
)  # fmt: skip
def test_a_good_value_that_is_linked_runs(campaign, node, field, kind):
    """Else all odd ones might be refused for another reason."""
    outcome = tried(campaign.client, odd(campaign.nodes, node, field, kind, "good"), campaign.names)
    assert outcome.kind == "ran", outcome.words


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("KeyError", "an error without words"),
        ("words", "refused in words"),
        ("nan", "not finite"),
        ("host", "fails in the host"),
        ("none", "ran"),
    ],
)
def test_what_became_of_a_prompt_is_told(campaign, fault, kind):
    """By nodes whose faults are known: `faulty` stands for the pack here."""
    prompt = {
        "faulty": {"class_type": "Faulty", "inputs": {"fault": fault, "nonce": time.monotonic_ns() % 10**6}},
        "check": {"class_type": "FuzzCheck", "inputs": {"value": ["faulty", 0]}},
    }
    outcome = tried(campaign.client, prompt, {"fault"}, ("custom_nodes/faulty/own",))
    assert outcome.kind == kind
    assert outcome.finding == (kind in ("an error without words", "not finite"))


def test_a_prompt_that_hangs_is_found_and_ends(campaign):
    prompt = {"faulty": {"class_type": "Faulty", "inputs": {"fault": "hang", "nonce": 1}}}
    prompt["check"] = {"class_type": "FuzzCheck", "inputs": {"value": ["faulty", 0]}}
    assert tried(campaign.client, prompt, {"fault"}, limit=1.0).kind == "takes too long"
    good = around(campaign.nodes, "SEGAConcept", {})
    assert tried(campaign.client, good, campaign.names).kind == "ran"


def test_what_stock_nodes_do_not_take_either_is_the_hosts(campaign):
    before = len(campaign.report.findings)
    graph = Graph(campaign.nodes)
    graph.nodes["odd"] = {"class_type": "FuzzLATENT", "inputs": {"which": "samples of None"}}
    model = graph.add("SEGAGuidance")
    graph.finish(graph.add("KSampler", {"model": [model, 0], "latent_image": ["odd", 0]}))
    outcome = campaign.one("a latent without samples", graph.nodes, ("LATENT", "samples of None"))
    assert outcome.kind == "fails in the host", outcome.words
    assert len(campaign.report.findings) == before


def test_a_changed_canary_is_a_finding(campaign, monkeypatch):
    before = len(campaign.report.findings)
    monkeypatch.setattr(campaign, "_canary", ("other bits",))
    campaign.one("a good prompt", around(campaign.nodes, "SEGAConcept", {}), None)
    (found,) = campaign.report.findings[before:]
    assert found["kind"] == "the next prompt has other bits"
