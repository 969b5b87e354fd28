"""The page's half of what nodes say: the words of a language, and the state of the graph that a text belongs to."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import javascript
import pytest
from semantic_steering.nodes.host.page.messages import english, input_name, joined, lines, message

ROOT = Path(__file__).resolve().parents[3]
WORKFLOW = json.loads((ROOT / "workflows" / "Change four things at once.json").read_text(encoding="utf-8"))
BLUEPRINT = json.loads((ROOT / "subgraphs" / "Change one thing (SEGA).json").read_text(encoding="utf-8"))


def language(name):
    folder = ROOT / "locales" / name
    return {
        "sentences": json.loads((folder / "main.json").read_text(encoding="utf-8"))["semanticSteering"],
        "nodeDefs": json.loads((folder / "nodeDefs.json").read_text(encoding="utf-8")),
    }


def said(text, name="en", **options):
    found = {**language(name), **options}
    return javascript.evaluate("report_text.js", "say(m.say(a[0], a[1], a[2]))", text.data, found, language("en"))


RAISE = message("too_weak", ways=joined("or", [message("raise", input=input_name("SEGAConcept", "scale"))]))
ALL = lines(
    [message("named", name="glasses", what=message("active", steps=3, total=9)), message("advice", advice=RAISE)]
)


def test_in_english_it_is_the_servers_text():
    assert said(ALL, nodeDefs=None) == str(ALL)
    assert str(ALL) == "glasses: active in 3 of 9 steps\n→ probably too weak to see: raise scale"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ko", ["9스텝 중 3스텝", "스케일 올리기"]),
        ("ja", ["9 ステップ中 3", "スケールを上げる"]),
        ("zh", ["9 步中的 3 步", "提高"]),
    ],
)
def test_in_another_language_inputs_have_the_names_that_the_page_shows(name, words):
    text = said(ALL, name)
    assert all(word in text for word in words)
    assert "scale" not in text
    assert text.startswith("glasses")


def test_a_sentence_that_a_language_lacks_is_english():
    assert said(ALL, "zh", sentences={"line": "\n"}).startswith("glasses: active in 3 of 9 steps")


def test_every_sentence_is_said_somewhere():
    """And what is said has a sentence: `message` would raise a KeyError."""
    files = [*(ROOT / "nodes").rglob("*.py"), *(ROOT / "web").glob("*.js")]
    code = "\n".join(file.read_text(encoding="utf-8") for file in files)
    for key in english():
        assert f'"{key}"' in code or key in ("for_high_noise", "for_low_noise"), key


def states(workflow):
    return dict(javascript.evaluate("report_text.js", "say([...m.statesOf(a[0])])", workflow))


def changed(change, workflow=WORKFLOW):
    """The ids of the nodes whose state a change of the workflow alters."""
    after = copy.deepcopy(workflow)
    change(after)
    one, other = states(workflow), states(after)
    assert one.keys() == other.keys()
    return {key for key in one if one[key] != other[key]}


def node(workflow, kind, nth=0):
    return [found for found in workflow["nodes"] if found["type"] == kind][nth]


def downstream(workflow, start):
    """Slow: every node that a change of this one reaches."""
    reached = {start}
    for _ in workflow["nodes"]:
        reached |= {link[3] for link in workflow["links"] if link[1] in reached}
    return {str(key) for key in reached}


@pytest.mark.parametrize("kind", ["KSampler", "SEGAConcept", "EmptyLatentImage", "CheckpointLoaderSimple"])
def test_a_value_changes_the_state_of_what_depends_on_it(kind):
    def other(workflow):
        values = node(workflow, kind)["widgets_values"]
        values[0] = f"not {values[0]}"

    assert changed(other) == downstream(WORKFLOW, node(WORKFLOW, kind)["id"])


def test_a_bypass_and_a_link_count():
    concept = node(WORKFLOW, "SEGAConcept")
    assert changed(lambda w: node(w, "SEGAConcept").update(mode=4)) == downstream(WORKFLOW, concept["id"])
    link = next(entry["link"] for entry in node(WORKFLOW, "SEGAGuidance")["inputs"] if entry["name"] == "concepts")
    cut = changed(lambda w: w["links"].remove(next(entry for entry in w["links"] if entry[0] == link)))
    assert cut == downstream(WORKFLOW, node(WORKFLOW, "SEGAGuidance")["id"])


def test_looks_do_not_count():
    def look(workflow):
        for each in workflow["nodes"]:
            each.update(title="other", pos=[1, 2], size=[3, 4], color="#fff", properties={"a": "text"})
            # What is queued leaves out sockets of widgets that nothing is connected to.
            each["inputs"] = [entry for entry in each.get("inputs", []) if entry.get("link") is not None]

    assert changed(look) == set()


@pytest.mark.parametrize(("after", "counts"), [("randomize", False), ("increment", False), ("fixed", True)])
def test_a_seed_counts_unless_it_changes_by_itself(after, counts):
    workflow = copy.deepcopy(WORKFLOW)
    for sampler in [each for each in workflow["nodes"] if each["type"] == "KSampler"]:
        sampler["widgets_values"][1] = after

    def other(changing):
        node(changing, "KSampler")["widgets_values"][0] += 1

    assert bool(changed(other, workflow)) is counts


def test_ids_do_not_count():
    """The graph built again, as the server's cache has it."""
    again = copy.deepcopy(WORKFLOW)
    for each in again["nodes"]:
        each["id"] += 100
    for link in again["links"]:
        link[1], link[3] = link[1] + 100, link[3] + 100
    assert list(states(again).values()) == list(states(WORKFLOW).values())


def test_what_is_in_a_subgraph_has_states_as_well():
    def inside(workflow):
        (definition,) = workflow["definitions"]["subgraphs"]
        values = next(each for each in definition["nodes"] if each["type"] == "SEGAConcept")["widgets_values"]
        values[2] = 9.5

    outer = str(BLUEPRINT["nodes"][0]["id"])
    found = changed(inside, BLUEPRINT)
    assert outer in found
    assert found > {outer}
    assert all(key == outer or key.startswith(f"{outer}:") for key in found)
