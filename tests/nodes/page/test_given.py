"""What the page's modules take from outside is in its type, or nothing: web/given.js, and what says it in words."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import javascript
import pytest
from semantic_steering.nodes.host.page.messages import input_name, joined, message

ROOT = Path(__file__).resolve().parents[3]
WORKFLOW = json.loads((ROOT / "subgraphs" / "Change one thing (SEGA).json").read_text(encoding="utf-8"))
TEXT = message("named", name="glasses", what=joined("comma", [message("active", steps=3, total=9)])).data
TOLD = {"node": "7", "runner": "12:9", "prompt": "a-b", "text": TEXT, "passing": False}
HEAT = {"node": "9", "picture": "data:image/jpeg;base64,/9j/"}
FILE = {"filename": "a.png", "subfolder": "", "type": "temp"}
RUN = {"outline": [{"pictures": [FILE], "heat": FILE, "threshold": 0.5, "grow": 8}]}
ENTRY = {"runner": "9", "state": "abc", "ran": "def", "text": TEXT}
JUNK = [None, 5, -1.5, True, "", "a text", [], [None], [[]], {}, {"a": 1}, {"constructor": 1}, "x" * 10**6]
NO_NAME = [None, True, 5, [], {}, ["7"], "x" * 201]


def given(function, *values):
    """What it gives of each, None for nothing."""
    return javascript.evaluate("given.js", f"say(a.map(value => m.{function}(value) ?? null))", *values)


def refused(function, *values):
    """Whether it gives nothing of any of them."""
    return given(function, *values) == [None] * len(values)


def put(good, *path, values):
    """That with each of the values at the path's end, and without anything there."""
    for value in (*values, "GONE"):
        bad = copy.deepcopy(good)
        inside = bad
        for step in path[:-1]:
            inside = inside[step]
        if value == "GONE":
            del inside[path[-1]]
        else:
            inside[path[-1]] = value
        yield bad


def nested(depth, inner):
    return {"join": "line", "parts": [nested(depth - 1, inner)]} if depth else inner


TEXTS = [None, True, [], {}, {"id": "active"}, {"id": 5, "values": {}}, {"id": "active", "values": None},
         {"id": "active", "values": {"steps": None}}, {"id": "active", "values": {"steps": [1]}}, {"join": "line"},
         {"join": "line", "parts": {}}, {"join": "line", "parts": [{}]}, {"join": 1, "parts": []}, {"input": 5},
         {"input": None}, "x" * 10**5, {"join": "line", "parts": [""] * 10**5}, {"id": "x" * 201, "values": {}},
         nested(10**2, "deep")]  # fmt: skip


def test_what_the_server_tells():
    good = [TOLD, *({**TOLD, "text": text, "passing": True} for text in ("a text", 5, nested(10, TEXT)))]
    assert given("toldOf", *good) == good
    names = [bad for name in ("node", "runner", "prompt") for bad in put(TOLD, name, values=NO_NAME)]
    passing = put(TOLD, "passing", values=[None, 0, 1, "", "true", [], {}])
    assert refused("toldOf", *JUNK, *names, *passing, *put(TOLD, "text", values=TEXTS))


def test_a_picture_of_the_maps_so_far():
    assert given("heatOf", HEAT) == [HEAT]
    addresses = ["https://example.org/a.jpg", "/view?filename=a", "javascript:alert(1)", "data:image/svg+xml,<svg/>",
                 "data:image/png;base64,/9j/", "data:text/html;base64,/9j/", "DATA:image/jpeg;base64,/9j/",
                 *JUNK]  # fmt: skip
    bad = [*put(HEAT, "picture", values=addresses), *put(HEAT, "node", values=NO_NAME[:-1])]
    assert refused("heatOf", *JUNK, *bad)
    script = "say([a[0], a[0] + 'A'.repeat(1 << 24)].map(picture => Boolean(m.heatOf({node: '9', picture}))))"
    assert javascript.evaluate("given.js", script, HEAT["picture"]) == [True, False]


def test_what_a_mask_gives_out():
    run, inside = RUN["outline"][0], ("outline", 0)
    assert given("runOf", RUN, {**RUN, "images": [FILE], "other": 1}) == [run, run]
    no_file = [
        None,
        5,
        "a text",
        [],
        {},
        {**FILE, "type": "etc"},
        {**FILE, "type": ["temp"]},
        {**FILE, "filename": None},
    ]
    bad = [
        *put(RUN, "outline", values=JUNK), *put(RUN, *inside, "heat", values=no_file),
        *put(RUN, *inside, "pictures", values=[None, 5, "text", {}, *([FILE, file] for file in no_file)]),
        *put(RUN, *inside, "threshold", values=[None, "5", True, [], {}]),
        *put(RUN, *inside, "grow", values=[None, "5", True, [], {}]),
    ]  # fmt: skip
    assert refused("runOf", *JUNK, *bad)


def test_what_a_file_says_that_its_nodes_said():
    good = [[ENTRY], [ENTRY] * 3]
    assert given("entriesOf", *good, [None, ENTRY, 5]) == [*good, [ENTRY]]
    names = [bad for name in ("runner", "state", "ran") for bad in put(ENTRY, name, values=NO_NAME)]
    bad = [*JUNK, *([entry] for entry in (*names, *put(ENTRY, "text", values=TEXTS)))]
    assert given("entriesOf", *bad) == [[]] * len(bad)
    assert [len(entries) for entries in given("entriesOf", [ENTRY] * 10**4)] == [64]


def test_what_the_tab_has_stored():
    kept = [["abc", [ENTRY]], ["def", []]]
    partly = [*kept, None, [5, [ENTRY]], ["ghi", 5]]
    assert given("reportsOf", json.dumps(kept), json.dumps(partly)) == [kept, [*kept, ["ghi", []]]]
    bad = [None, "", "{", "null", "5", '{"a": 1}', '"abc"', "[[]]", "[" * 10**4]
    assert given("reportsOf", *bad) == [[]] * len(bad)


def test_what_the_server_has_of_a_workflow():
    assert given("workflowOf", WORKFLOW, {}) == [WORKFLOW, {}]
    inner, wrong = ("definitions", "subgraphs", 0), [None, 5, "a text", True, {}]
    bad = [
        bad
        for path in (("nodes",), ("links",), (*inner, "nodes"), (*inner, "links"), ("definitions", "subgraphs"))
        for bad in [*put(WORKFLOW, *path, values=[*wrong, [None], [5], ["text"]])][:-1]  # without them it is a graph
    ]
    bad += put(WORKFLOW, *inner, "nodes", 0, "inputs", values=[5, "a text", True, {}, [None], [5]])
    bad.pop()  # a node without inputs
    assert refused("workflowOf", None, 5, "a text", [], *bad)


def test_a_workflow_without_end():
    endless = copy.deepcopy(WORKFLOW)
    (definition,) = endless["definitions"]["subgraphs"]
    definition["nodes"][0]["type"] = definition["id"]
    wide = [{"id": i, "nodes": [{"id": n, "type": i + 1} for n in range(20)], "links": []} for i in range(15)]
    assert refused("workflowOf", endless, {"nodes": [{"id": 1, "type": 0}], "definitions": {"subgraphs": wide}})


def test_an_entry_of_the_queue():
    script = "say([m.entryOf(a[0], 'b')?.[2], ...a.slice(1).map(v => m.entryOf(v, 'b') ?? null)])"
    found = javascript.evaluate("given.js", script, [None, 5, "ab", [0, "a", 1], [0, "b", 2]], *JUNK)
    assert found == [2, *[None] * len(JUNK)]


@pytest.mark.parametrize("name", ["constructor", "__proto__", "toString", "no such sentence", "{a}{a}{a}", ""])
def test_an_id_without_a_sentence_is_shown_as_it_is(name):
    """Also one that every object of JavaScript has; and what is in it is no place for values."""
    text = {"id": name, "values": {"a": "x" * 10}}
    script = "say(m.say(a[0], {sentences: {line: ' '}}))"
    assert javascript.evaluate("report_text.js", script, text) == name
    assert javascript.evaluate("report_text.js", script, {"join": "line", "parts": [text, "b"]}) == f"{name} b"
    assert javascript.evaluate("report_text.js", script, {"input": f"{name}.a"}) == "a"
    assert javascript.evaluate("report_text.js", script, {"input": name}) == name


@pytest.mark.parametrize("words", [5, None, {}, ["a"]])
def test_a_languages_words_that_are_none(words):
    language = {"sentences": {"active": words}, "nodeDefs": {"A": {"inputs": {"b": {"name": words}}, "c": words}}}
    script = (
        "say([m.say(a[0], a[1], {sentences: {active: 'english'}}), m.say(a[2], a[1]), m.say({input: 'c.d'}, a[1])])"
    )
    text, field = {"id": "active", "values": {}}, {"input": "A.b"}
    assert javascript.evaluate("report_text.js", script, text, language, field) == ["english", "b", "d"]


def test_the_name_of_an_input_is_its_languages():
    assert input_name("A", "b").data == {"input": "A.b"}
    language = {"sentences": {}, "nodeDefs": {"A": {"inputs": {"b": {"name": "Bee"}}}}}
    assert javascript.evaluate("report_text.js", "say(m.say(a[0], a[1]))", {"input": "A.b"}, language) == "Bee"


@pytest.mark.parametrize(
    ("shape", "good"),
    [([1, 2, 3], True), ([1, 2, 4], False), ([2**31, 2**31, 1], False), ([-1, -2, 3], False), ([1.5, 2, 2], False),
     ([6], False), ([0, 0, 0], False), ("abc", False), ([None, 2, 3], False)],
    ids=str,
)  # fmt: skip
def test_a_heat_file_that_holds_no_maps_is_not_drawn(shape, good):
    header = json.dumps({"heat": {"dtype": "F32", "shape": shape, "data_offsets": [0, 24]}})
    script = """const header = new TextEncoder().encode(a[0]), file = new Uint8Array(8 + header.length + 24);
        new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true), file.set(header, 8);
        try { say(m.readHeat(file.buffer).values.length) } catch (error) { say(error.message) }"""
    found = javascript.evaluate("diffedit_outline.js", script, header)
    assert found == 6 if good else "no heat maps" in found
