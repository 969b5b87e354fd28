"""DiffEdit Mask in the page: the outline is the mask that the next run gives, and it moves without a run."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from guidance_core import grow_mask

pytestmark = pytest.mark.browser

MASK, SHOWN, PICTURE = "9", "98", "99"  # in the graph below
# The widget's own element, wherever the renderer has put it.
ELEMENT = f"app.graph.getNodeById({MASK}).widgets.find(widget => widget.name === 'outline').element"
LOOK = f"""() => {{
    const {{canvas, graph}} = app, [x, y] = graph.getNodeById({MASK}).pos
    canvas.ds.scale = 1, canvas.ds.offset = [400 - x, 100 - y], canvas.setDirty(true, true)
}}"""
UNDO = """async () => {
    const steps = app.extensionManager.workflow.activeWorkflow.changeTracker
    steps.captureCanvasState()
    app.graph.add(LiteGraph.createNode('MaskToImage'))
    steps.captureCanvasState()
    const count = app.graph.nodes.length
    await steps.undo() // makes all nodes anew, with the old ids
    if (app.graph.nodes.length !== count - 1) throw new Error('nothing was undone')
}"""
SAVED = f"() => app.graph.serialize().nodes.find(node => node.id == {MASK}).widgets_values"
SET = """([id, name, value]) => {
    const node = app.graph.getNodeById(id), widget = node.widgets.find(widget => widget.name === name)
    widget.value = value
    widget.callback(value, app.canvas, node)
}"""


@pytest.fixture(params=[False, True], ids=["classic", "vue"])
def mask(request, browser, quiet):
    """The page with "Edit inside a mask" cut off behind the mask, in either renderer."""
    browser.renderer(request.param)
    browser.stage("diffedit_replace")
    browser.evaluate(f"""() => {{
        const mask = app.graph.getNodeById({MASK})
        for (const node of [...app.graph.nodes]) if (node.id > {MASK}) app.graph.remove(node)
        const [picture, shown] = ['MaskToImage', 'PreviewImage'].map(type => LiteGraph.createNode(type))
        Object.assign(picture, {{id: {SHOWN}, pos: [1500, 0]}})
        Object.assign(shown, {{id: {PICTURE}, pos: [1500, 200]}})
        app.graph.add(picture), app.graph.add(shown)
        mask.connect(0, picture, 0), picture.connect(0, shown, 0)
        for (const [name, value] of Object.entries({{maps: 2, blur: 0, grow: 0, threshold: 0.5}}))
            mask.widgets.find(widget => widget.name === name).value = value
    }}""")
    yield browser
    browser.renderer(False)


def text(browser) -> str:
    return browser.evaluate(f"() => {ELEMENT}.innerText").strip()


def settle(browser, before: str = "") -> str:
    """The line below the drawing, once it says another share than before."""
    browser.evaluate(LOOK)
    said = f"{ELEMENT}.innerText.trim()"
    ready = f"before => {ELEMENT}.isConnected && /%|empty/.test({said}) && {said} !== before"
    browser.page.wait_for_function(ready, arg=before)
    return text(browser)


def drawn(browser) -> np.ndarray:
    """The drawing's colours."""
    url = browser.evaluate(f"() => {ELEMENT}.querySelector('canvas').toDataURL()")
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return np.array(picture.convert("RGB")).astype(int)


def the_runs_mask(browser) -> np.ndarray:
    entry = browser.run()
    (file,) = entry["outputs"][PICTURE]["images"]
    return np.array(Image.open(io.BytesIO(browser.server.client.view(file))).convert("L")) > 127


def put(browser, name, value):
    browser.evaluate(SET, [int(MASK), name, value])


def edges(mask: np.ndarray, scale: int) -> np.ndarray:
    """Pixels of the drawing that a line lies on."""
    padded = np.pad(np.kron(mask, np.ones((scale, scale), bool)), 1)
    inner = padded[1:-1, 1:-1]
    return inner & ~(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])


def test_the_outline_moves_without_a_run_and_is_the_next_runs_mask(mask):
    saved, sent = mask.evaluate(SAVED), mask.prompt()
    first = the_runs_mask(mask)
    shown = settle(mask)
    assert 0 < first.mean() < 1 and shown == f"{round(100 * first.mean())} % of the picture"
    put(mask, "threshold", 1.0)
    assert settle(mask, shown) == "the mask is empty: lower threshold"
    plain = drawn(mask)
    for threshold, grow in ((0.3, 0), (0.3, 9), (0.62, 3)):
        before, runs = text(mask), mask.server.client.get("/history")
        put(mask, "threshold", threshold)
        put(mask, "grow", grow)
        moved = settle(mask, before)
        lines = np.abs(drawn(mask) - plain).max(-1) > 8
        assert mask.server.client.get("/history") == runs
        found = the_runs_mask(mask)
        assert moved == f"{round(100 * found.mean())} % of the picture"
        scale = len(lines) // len(found)
        expected = edges(found, scale)
        assert lines[expected].mean() > 0.97  # over bright places white on white
        near = grow_mask(torch.from_numpy(expected).float(), 8).bool().numpy()
        assert not lines[~near].any()
    put(mask, "threshold", 0.5)
    put(mask, "grow", 0)
    assert mask.evaluate(SAVED) == saved
    assert mask.prompt() == sent


def test_it_comes_back_after_a_reload_and_after_undo(mask):
    the_runs_mask(mask)
    shown = settle(mask)
    graph = mask.evaluate("() => app.graph.serialize()")
    mask.open()
    mask.page.wait_for_function("() => app.extensionManager.workflow.activeWorkflow")
    mask.errors.clear()  # what the page says of itself while it starts
    mask.load(graph)
    assert text(mask) == ""  # nothing yet, and no error
    the_runs_mask(mask)  # from the server's cache
    assert settle(mask) == shown
    mask.evaluate(UNDO)
    the_runs_mask(mask)
    assert settle(mask) == shown
