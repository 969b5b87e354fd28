"""A cut of `dev.py fuzz --faults` and of `--soak`, and that they notice what they are there for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from devtools.fuzz.faults import Faults
from devtools.fuzz.fuzz import prepared
from devtools.fuzz.graphs import Graph
from devtools.fuzz.soak import Soak, SoakReport
from devtools.server.server import Server, link

pytestmark = pytest.mark.server
HERE = Path(__file__).parent
SOAKED = ("sega_one_concept", "ddim_invert_reconstruct", "slider_train_images")


@pytest.fixture(scope="module")
def server(tmp_path_factory, checkpoint):
    base = prepared(tmp_path_factory.mktemp("faults"), checkpoint)
    link(base / "custom_nodes" / "faulty", HERE / "faulty")
    with Server(base, flags=("--cache-classic",)) as running:
        yield running


@pytest.fixture(scope="module")
def faults(server):
    return Faults(server, seed=5)


@pytest.fixture(scope="module")
def scenes(faults):
    """Prompts by their names; to find which sockets go together, many of them are run."""
    return dict(faults.prompts())


@pytest.fixture(scope="module")
def faulty(server):
    """The same for the pack of this folder that stands for ours."""
    return Faults(server, 5, pack="faulty")


def test_every_node_is_in_it(faults, scenes):
    """A new one by existing."""
    names = [*scenes]
    assert len(names) == 2 * len(faults.nodes.ours) > 30
    assert {name.split(" ")[0] for name in names} == {*faults.nodes.ours}
    assert "SliderLoRALoader with clip, slider" in names
    assert "SEGAConcept with concepts, mask" in names


@pytest.mark.parametrize(
    "node", ["SEGAGuidance", "SEGASweep", "SEGASampler", "SliderLoRALoader", "SliderSweep", "DDIMInvert",
             "DiffEditMask", "DiffEditSampler", "InstructPix2PixGuider", "SEGAApplyVectors"]
)  # fmt: skip
def test_a_failed_run_leaves_nothing(faults, scenes, node):
    """Two of the faults that `dev.py fuzz --faults` tries with this node among other packs' patches."""
    before = faults.report.faults
    name, prompt = next((name, prompt) for name, prompt in scenes.items() if name.startswith(f"{node} with"))
    scene = faults.scene(name, prompt)
    assert scene is not None, faults.report.findings
    every = list(faults.faults(scene))
    assert {"evaluation", "progress", "layer", "patching", "before apply_model before"} <= {at for at, *_ in every}
    for fault in faults.random.sample(every, 2):
        faults.one(scene, fault)
    assert faults.report.findings == []
    assert faults.report.faults == before + 2, "a fault was not reached"


@pytest.mark.parametrize(
    ("left", "where"),
    [
        ("hook", "module 0"),
        ("kept", "live .leaving.Run: 0, then 1"),
        ("option", "kept FaultyModel 0 0"),
        ("replaced", "host comfy.samplers"),
        ("weight", "weights 0"),
        ("momentum", "the next run has other bits"),
        ("nothing", None),
    ],
)
def test_what_a_run_leaves_is_found(faulty, left, where):
    graph = Graph(faulty.nodes, {"steps": 3})
    graph.finish(graph.add("FaultyModel", {"fault": left}))
    scene = faulty.scene(left, graph.nodes)
    assert scene is not None
    before = len(faulty.report.findings)
    for kind in ("cancel", "interrupt", "error", "memory"):
        faulty.one(scene, ("progress", 2, kind))
        found = [text for each in faulty.report.findings[before:] for text in (each["kind"], *each["what"])]
        del faulty.report.findings[before:]
        if where is None:
            assert found == []
        else:
            assert any(text.startswith(where) for text in found), (kind, found)


def test_a_short_soak(server, monkeypatch):
    soak = Soak(server, seed=1)
    few = {which: prompt for which, prompt in soak.prompts().items() if which[0] in SOAKED}
    monkeypatch.setattr(soak, "prompts", lambda: few)  # of all of them hardly one would come twice
    report = soak.run(time.monotonic() + 60, 12)
    assert report.prompts >= 12
    assert {"ran", "interrupted", "deleted"} <= report.ended.keys()
    assert report.compared >= 1
    assert [found for found in report.findings if found["what"] not in ("memory", "files", "threads")] == []


def test_a_soak_notices_growth_and_other_bits(server, monkeypatch):
    soak = Soak(server, seed=1)
    looks = iter([(1000, 7), (1000, 8), (1011, 9)])
    monkeypatch.setattr("devtools.fuzz.soak.LOOK", 1)
    monkeypatch.setattr(
        soak, "_look",
        lambda: soak.report.usage.append(
            dict(zip(("MB", "files"), next(looks), strict=True), prompts=soak.report.prompts, threads=5)
        ),
    )  # fmt: skip
    monkeypatch.setattr("devtools.fuzz.soak.DELETED", 0)
    monkeypatch.setattr("devtools.fuzz.soak.CANCELLED", 0)
    prompts = soak.prompts()
    soak._bits = dict.fromkeys(prompts, "other bits")
    report = soak.run(time.monotonic() + 60, 1)
    assert report.growth == pytest.approx(0.011)
    assert [found["what"] for found in report.findings][1:] == ["memory", "files"]
    assert report.findings[0]["words"] == "other bits than the first time"


def test_a_soak_that_is_stopped_at_once_has_a_report():
    assert SoakReport(1).lines()[0].startswith("0 prompts, seed 1: ")
    assert SoakReport(1).content()["growth"] == 0.0
