"""What our nodes say after a run: it stays, whole, under the right node, and is that of the graph as it is."""

from __future__ import annotations

import io
import itertools
import json

import pytest
from PIL import Image

from devtools.server.client import PromptError
from devtools.server.workflows import BYPASSED

pytestmark = pytest.mark.browser

RENDERERS = {"on a canvas": False, "as elements": True}
SEEDS = itertools.count(1000)
OLD = "From the last run:\n"
# By the node's id: the text that a person sees under it, and whether all of it is seen.
SHOWN = """() => {
    const found = {}
    for (const node of app.graph._nodes) {
        const element = node.widgets?.find(widget => widget.name === 'report')?.element
        if (!element?.isConnected || getComputedStyle(element).display === 'none' || !element.offsetHeight) continue
        const {left, right, bottom} = element.getBoundingClientRect()
        const box = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect()
        const inside = !box || (left >= box.left - 1 && right <= box.right + 1 && bottom <= box.bottom + 1)
        found[node.id] = [element.textContent, inside && element.scrollHeight <= element.clientHeight + 1]
    }
    return found
}"""
# As a person changes it: the page compares the graph afterwards.
TOUCHED = """() => {
    const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker
    ;(tracker.captureCanvasState ?? tracker.checkState).call(tracker)
    return tracker.undoQueue.length
}"""
UNDO = "() => app.extensionManager.workflow.activeWorkflow.changeTracker.undo()"


@pytest.fixture(params=RENDERERS)
def graph(browser, request):
    """The page with a fresh "Change one thing" of three steps and another seed than all before, or the server had it in
    its cache. Ids: 6 the concept, 7 SEGA Guidance, 8 the sampler without it, 9 the one behind it."""
    browser.renderer(RENDERERS[request.param])
    browser.stage("sega_one_concept", steps=3)
    seed = next(SEEDS)
    change(browser, 9, "seed", seed)
    change(browser, 8, "seed", seed)
    browser.evaluate(TOUCHED)
    return browser


def forget(browser):
    browser.evaluate("() => sessionStorage.removeItem('semantic-steering.reports')")
    browser.open()


def change(browser, node, name, value):
    script = """([id, name, value]) => {
        const widget = app.graph.getNodeById(id).widgets.find(widget => widget.name === name)
        widget.value = value
        widget.callback?.(value)
    }"""
    browser.evaluate(script, [node, name, value])


def shown(browser, *, want=None):
    """{node id: text}; with `want`, a condition on it, as soon as that holds."""
    for _ in range(100):
        found = browser.evaluate(SHOWN)
        texts = {int(key): text for key, (text, _) in found.items()}
        if want is None or want(texts):
            break
        browser.page.wait_for_timeout(100)
    assert want is None or want(texts), texts
    return texts


def run(browser):
    entry = browser.run()
    browser.page.wait_for_timeout(300)  # what the page does at the end of a run
    return entry


def test_it_is_there_after_the_run_whole_and_in_lines(graph):
    run(graph)
    text = shown(graph, want=lambda texts: 7 in texts)[7]
    assert text.startswith("glasses, in the prompt's context: active in 2 of 3 steps, moved the picture by ")
    graph.page.wait_for_timeout(2000)
    assert shown(graph) == {7: text}
    assert all(whole for _, whole in graph.evaluate(SHOWN).values())


def test_a_change_marks_it_and_undo_takes_the_mark_away(graph):
    run(graph)
    text = shown(graph, want=lambda texts: 7 in texts)[7]
    before = graph.evaluate(TOUCHED)  # a run is no step to undo
    change(graph, 6, "scale", 8.5)
    assert graph.evaluate(TOUCHED) == before + 1
    assert shown(graph, want=lambda texts: texts[7] != text) == {7: OLD + text}
    graph.evaluate(UNDO)
    assert shown(graph, want=lambda texts: texts.get(7) == text) == {7: text}
    run(graph)  # all of it from the server's cache
    assert shown(graph) == {7: text}


def test_it_is_in_the_file_and_comes_back_with_it_and_after_a_reload(graph):
    run(graph)
    text = shown(graph, want=lambda texts: 7 in texts)[7]
    saved = graph.evaluate("() => app.rootGraph.serialize()")
    assert "semantic_steering_report" not in json.dumps(graph.prompt())
    graph.open()
    graph.load(saved)
    assert shown(graph, want=bool) == {7: text}
    forget(graph)  # somebody else opens the file
    graph.load(saved)
    assert shown(graph, want=bool) == {7: text}
    change(graph, 6, "scale", 8.5)
    graph.evaluate(TOUCHED)
    assert shown(graph, want=lambda texts: texts[7] != text) == {7: OLD + text}


def test_a_sampler_further_on_changes_nothing_and_one_of_another_seed_does(graph):
    run(graph)
    text = shown(graph, want=lambda texts: 7 in texts)[7]
    change(graph, 8, "seed", 1)
    graph.evaluate(TOUCHED)
    assert shown(graph) == {7: text}
    change(graph, 9, "seed", 1)
    graph.evaluate(TOUCHED)
    assert shown(graph, want=lambda texts: texts[7] != text) == {7: OLD + text}


def test_two_samplers_behind_one_guidance_are_both_named(graph):
    graph.evaluate("() => app.graph.getNodeById(7).connect(0, app.graph.getNodeById(8), 0)")
    change(graph, 8, "steps", 4)
    graph.evaluate(TOUCHED)
    run(graph)
    text = shown(graph, want=lambda texts: texts.get(7, "").count("active in") == 2)[7]
    first, second = sorted(text.split("KSampler: ")[1:])
    assert first.startswith("after (#9):\nglasses, in the prompt's context: active in 2 of 3 steps")
    assert second.startswith("before (#8):\nglasses, in the prompt's context: active in 3 of 4 steps")


def equal_guidance(browser, sampler):
    """A second SEGA Guidance like the first one, before that sampler; its id."""
    script = """sampler => {
        const nodeAt = id => app.graph.getNodeById(id), other = LiteGraph.createNode('SEGAGuidance')
        app.graph.add(other)
        other.widgets.forEach((widget, i) => { widget.value = nodeAt(7).widgets[i].value })
        nodeAt(1).connect(0, other, 0), nodeAt(6).connect(0, other, 1), other.connect(0, nodeAt(sampler), 0)
        return other.id
    }"""
    return int(browser.evaluate(script, sampler))


def test_of_two_equal_nodes_each_says_what_its_own_run_did(graph):
    """The host's cache would hand the first one's model to the second, with the first one's id in it."""
    other = equal_guidance(graph, 8)
    change(graph, 8, "steps", 4)
    graph.evaluate(TOUCHED)
    run(graph)
    texts = shown(graph, want=lambda texts: len(texts) == 2)
    assert "active in 2 of 3 steps" in texts[7]
    assert "active in 3 of 4 steps" in texts[other]


def test_a_graph_that_is_built_again_has_its_text_under_its_own_node(graph):
    run(graph)
    shown(graph, want=lambda texts: 7 in texts)
    other = equal_guidance(graph, 9)
    graph.evaluate("() => app.graph.remove(app.graph.getNodeById(7))")
    change(graph, 9, "seed", 2)
    graph.evaluate(TOUCHED)
    run(graph)
    texts = shown(graph, want=lambda texts: texts.get(other, OLD).startswith("glasses"))
    assert set(texts) == {other}


def test_without_an_edit_it_says_why(graph):
    run(graph)
    shown(graph, want=lambda texts: 7 in texts)
    change(graph, 6, "scale", 0.0)
    graph.evaluate(TOUCHED)
    run(graph)
    why = "glasses, in the prompt's context: switched off, +0 evaluations\n→ scale is 0"
    alone = why.replace(", in the prompt's context", "")
    assert shown(graph, want=lambda texts: "switched off" in texts.get(7, "")) == {7: alone}
    graph.evaluate(f"() => {{ app.graph.getNodeById(6).mode = {BYPASSED} }}")
    graph.evaluate(TOUCHED)
    run(graph)
    assert shown(graph, want=lambda texts: "switched" not in texts.get(7, "")) == {7: "no concept is connected"}
    graph.evaluate(f"() => {{ app.graph.getNodeById(7).mode = {BYPASSED} }}")
    graph.evaluate(TOUCHED)
    assert shown(graph, want=lambda texts: not texts) == {}


def test_a_run_that_fails_leaves_no_text_as_its_own(graph):
    run(graph)
    text = shown(graph, want=lambda texts: 7 in texts)[7]
    change(graph, 6, "text", "")
    graph.evaluate(TOUCHED)
    with pytest.raises(PromptError):
        run(graph)
    assert shown(graph) == {7: OLD + text}


def test_the_tile_goes_with_show_activity(graph):
    pictures = """() => {
        const node = app.graph.getNodeById(7)
        return (node.imgs?.length ?? 0) + document.querySelectorAll('[data-node-id="7"] img').length
    }"""
    change(graph, 7, "show_activity", True)
    run(graph)
    graph.page.wait_for_function(f"() => ({pictures})() === 1")
    change(graph, 7, "show_activity", False)
    run(graph)
    graph.page.wait_for_function(f"() => ({pictures})() === 0")


def test_in_the_pages_language(graph):
    graph.set(Comfy_Locale="zh")
    seed = next(SEEDS)
    try:
        graph.open()
        graph.stage("sega_one_concept", steps=3, seed=seed)
        run(graph)
        text = shown(graph, want=bool)[7]
        assert "在 3 步中的 2 步起作用" in text
        assert "active" not in text
    finally:
        graph.set(Comfy_Locale="en")
        graph.open()


def test_the_report_node_shows_it_and_the_picture_carries_it(graph):
    script = """() => {
        const nodeAt = id => app.graph.getNodeById(id)
        const report = LiteGraph.createNode('SEGAReport'), save = LiteGraph.createNode('SaveImage')
        app.graph.add(report), app.graph.add(save)
        nodeAt(9).connect(0, report, 0), report.connect(0, nodeAt(11), 0), nodeAt(11).connect(0, save, 0)
        return [report.id, save.id]
    }"""
    report, save = map(int, graph.evaluate(script))
    graph.evaluate(TOUCHED)
    entry = run(graph)
    texts = shown(graph, want=lambda texts: len(texts) == 2)
    assert texts[report] == texts[7]
    (saved,) = entry["outputs"][str(save)]["images"]
    picture = Image.open(io.BytesIO(graph.server.client.view(saved)))
    assert json.loads(picture.info["semantic_steering"]) == {str(report): texts[7]}
