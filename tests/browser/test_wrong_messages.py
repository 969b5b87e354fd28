"""Messages of a wrong shape, through the page's own socket, and files with anything in them: no error, no effect."""

from __future__ import annotations

import itertools
import json

import pytest

from devtools.server.server import PACK

pytestmark = pytest.mark.browser

MASK = "9"
SEND = """messages => {
    for (const message of messages)
        app.api.socket.dispatchEvent(new MessageEvent('message', {data: message}))
}"""
# What our nodes show, and what of it the tab has stored.
STATE = f"""() => {{
    const element = (node, name) => node.widgets?.find(widget => widget.name === name)?.element
    const panel = element(app.graph.getNodeById({MASK}), 'outline')
    return {{
        texts: app.graph._nodes.map(node => element(node, 'report')?.textContent).filter(Boolean),
        panel: [panel.style.display, panel.innerText, panel.querySelector('canvas').width],
        stored: sessionStorage.getItem('semantic-steering.reports'),
        toasts: document.querySelectorAll('.p-toast-message').length,
    }}
}}"""
PIXEL = "R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="  # any picture: the page looks at what it is itself
TOLD = {"node": MASK, "runner": MASK, "prompt": "none", "text": "a word of the server", "passing": True}
HEAT = {"node": MASK, "picture": f"data:image/jpeg;base64,{PIXEL}"}
ELSEWHERE = "http://127.0.0.1:9/"  # nobody listens there
FILE = {"filename": "a.png", "subfolder": "", "type": "temp"}
RUN = {"pictures": [FILE], "heat": FILE, "threshold": 0.5, "grow": 8}
JUNK = [None, True, [], [None], {}, {"constructor": 1}, "x" * 10**6]
TEXTS = [
    {"id": "constructor", "values": 5},
    {"id": "active"},
    {"input": None},
    {"join": "line"},
    {"join": 5, "parts": []},
]
ADDRESSES = [ELSEWHERE, f"{ELSEWHERE}a.jpg", "javascript:window.hit=4", "data:image/svg+xml,<svg/>"]


def messages():
    """(type, data) of what no server of ours sends."""
    for junk in [*JUNK, 5, "", "a text"]:
        yield "semantic-steering.text", junk
        yield "semantic-steering.heat", junk
        yield "executing", {"node": junk, "display_node": junk}
        for node, output in itertools.product((MASK, f"{MASK}:1"), (junk, {"outline": junk}, {"outline": [junk]})):
            yield "executed", {"node": node, "display_node": node, "output": output}
        images = {"outline": [RUN], "images": junk}
        yield "executed", {"node": f"{MASK}:1", "display_node": f"{MASK}:1", "output": images}
    for junk in JUNK:
        for name in ("node", "runner", "prompt", "text"):
            yield "semantic-steering.text", {**TOLD, name: junk}
        for name in ("heat", "threshold", "grow"):
            yield "executed", {"node": MASK, "display_node": MASK, "output": {"outline": [{**RUN, name: junk}]}}
        yield "semantic-steering.heat", {**HEAT, "node": junk}
    for passing in (None, 0, "true", []):
        yield "semantic-steering.text", {**TOLD, "passing": passing}
    for text in TEXTS:
        yield "semantic-steering.text", {**TOLD, "text": text}
    for address in (*JUNK, *ADDRESSES):
        yield "semantic-steering.heat", {**HEAT, "picture": address}


def deep(depth):
    """A text in texts, as JSON: Python's own would not go so far down."""
    text = '{"join": "line", "parts": [' * depth + '"deep"' + "]}" * depth
    return text_of("semantic-steering.text", {**TOLD, "text": "TEXT"}).replace('"TEXT"', text)


def text_of(kind, data):
    return json.dumps({"type": kind, "data": data})


@pytest.fixture(params=[False, True], ids=["on a canvas", "as elements"])
def graph(browser, request):
    browser.renderer(request.param)
    browser.evaluate("() => sessionStorage.removeItem('semantic-steering.reports')")
    browser.open()
    browser.stage("diffedit_replace")
    browser.errors.clear()
    yield browser
    browser.evaluate("() => sessionStorage.removeItem('semantic-steering.reports')")
    browser.open()  # the page itself holds what it was sent


def send(browser, *texts):
    browser.evaluate(SEND, list(texts))
    browser.page.wait_for_timeout(700)  # what follows of them, and the server's answers


def ours(browser):
    return [error for error in browser.errors if PACK in error]


def test_a_message_of_a_wrong_shape(graph):
    asked = []
    graph.page.on("request", lambda request: asked.append(request.url))
    before = graph.evaluate(STATE)
    assert before["texts"] == [] and before["panel"][0] == "none" and before["stored"] is None
    send(graph, *(text_of(*message) for message in messages()), deep(21), deep(5000))
    assert graph.evaluate(STATE) == before
    assert ours(graph) == []
    assert not [url for url in asked if url.startswith(ELSEWHERE)]
    send(graph, text_of("semantic-steering.text", TOLD))  # the same way
    assert graph.evaluate(STATE)["texts"] == [TOLD["text"]]
    send(graph, text_of("semantic-steering.heat", HEAT))
    display, _, width = graph.evaluate(STATE)["panel"]
    assert (display, width) == ("flex", 1)
    assert ours(graph) == []


def test_a_file_with_anything_in_its_nodes(graph):
    kept = [None, 5, "a text", [None], [5, "a"], [{}], [{"ran": 1, "text": {}}], [[]], {"a": 1}]
    workflow = graph.evaluate("() => app.rootGraph.serialize()")
    for node, junk in zip(workflow["nodes"], itertools.cycle(kept)):
        node.setdefault("properties", {})["semantic_steering_report"] = junk
    for junk in kept:
        next(node for node in workflow["nodes"] if str(node["id"]) == MASK)["properties"][
            "semantic_steering_report"
        ] = junk
        graph.load({**workflow, "id": 5})
        assert graph.evaluate(STATE)["texts"] == []
    assert ours(graph) == []


def test_a_store_with_anything_in_it(browser):
    for stored in ("{", "5", '[null, ["a", [null]], ["b", 5]]'):
        browser.evaluate("stored => sessionStorage.setItem('semantic-steering.reports', stored)", stored)
        browser.errors.clear()
        browser.open()
        browser.stage("diffedit_replace")
        send(browser, text_of("semantic-steering.text", TOLD))
        assert browser.evaluate(STATE)["texts"] == [TOLD["text"]]
        assert ours(browser) == []
    browser.evaluate("() => sessionStorage.removeItem('semantic-steering.reports')")
    browser.open()
