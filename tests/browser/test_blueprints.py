"""The subgraph blueprints in the page: found by searching, inserted, wired up, run."""

from __future__ import annotations

import io

import numpy as np
import pytest
from blueprint_prompts import FILES, FOLDER, parts
from PIL import Image

from devtools.demo.serve import EXAMPLE
from devtools.server.server import CHECKPOINT
from devtools.server.workflows import to_prompt

pytestmark = pytest.mark.browser

RENDERERS = {"drawn": False, "elements": True}
# What is around them in a user's graph: what they are connected to by type, and two places where pictures are shown.
AROUND = """async ([checkpoint, picture]) => {
    app.graph.clear()
    const add = (type, x, y, ...values) => {
        const node = LiteGraph.createNode(type)
        node.pos = [x, y]
        app.graph.add(node)
        values.forEach((value, i) => { node.widgets[i].value = value })
        return node
    }
    const loader = add('CheckpointLoaderSimple', 0, 0, checkpoint), size = add('EmptyLatentImage', 0, 200, 128, 128, 1)
    const [positive, negative] = ['a portrait of a woman with no hat', ''].map((text, i) => {
        const node = add('CLIPTextEncode', 400, 250 * i, text)
        loader.connect(1, node, 0)
        return node
    })
    const image = add('LoadImage', 0, 400, picture)
    window.around = {model: [loader, 0], clip: [loader, 1], vae: [loader, 2], positive: [positive, 0],
                     negative: [negative, 0], latent_image: [size, 0], image: [image, 0]}
}"""
WIRE = """values => {
    const node = app.graph._nodes.at(-1)
    node.inputs.forEach((input, i) => {
        const [origin, slot] = around[input.name] ?? []
        origin?.connect(slot, node, i)
    })
    for (const [name, value] of Object.entries(values)) {
        const widget = node.widgets.find(widget => widget.name === name)
        widget.value = value
        widget.callback?.(value)
    }
    if (node.outputs[0].type !== 'IMAGE') return
    const show = LiteGraph.createNode('PreviewImage')
    show.pos = [1300, 0]
    app.graph.add(show)
    node.connect(0, show, 0)
}"""
VALUES = {
    "Change one thing (SEGA)": {"steps": 8, "scale": 6.0},
    "Edit a photo (DiffEdit)": {
        "source": "a portrait of a woman with no glasses", "target": "a portrait of a woman with glasses",
        "megapixels": 0.02, "grow": 0, "steps": 8,
    },
    "Dial a slider": {"lora_name": "smile.safetensors", "strength": 1.5},
}  # fmt: skip


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request):
    return request.param


def insert(browser, name):
    """As a user does it: a double click on the canvas, the name, a click on what is found, a click to put it down."""
    page = browser.page
    browser.evaluate("() => { app.canvas.ds.scale = 0.5; app.canvas.ds.offset = [200, 200] }")  # nodes are at the left
    page.wait_for_timeout(500)
    field = page.get_by_role("combobox", name="Add a node...")
    for _ in range(20):  # a busy machine may not see two clicks as a double click
        page.mouse.dblclick(1000, 800)
        page.wait_for_timeout(500)
        if field.count():
            break
    field.fill(name)
    page.get_by_test_id("result-item").filter(has_text=name).first.click()
    page.wait_for_function("name => app.graph._nodes.at(-1)?.title === name", arg=name)
    page.mouse.click(900, 250)


# Whether it was told at any time: a busy machine may look for a notice when it is gone again.
WATCH = """() => {
    window.told = false
    const note = records => records.forEach(({addedNodes}) => addedNodes.forEach(node => {
        window.told ||= Boolean(node.textContent?.includes('active in 6 of 8 steps'))
    }))
    new MutationObserver(note).observe(document.body, {childList: true, subtree: true})
}"""


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_blueprint_is_one_node_that_runs(browser, quiet, renderer, file):
    browser.renderer(RENDERERS[renderer])
    browser.evaluate(AROUND, [CHECKPOINT, EXAMPLE])
    insert(browser, file.stem)
    steered = file.stem == "Change one thing (SEGA)"
    seed = {"seed": list(RENDERERS).index(renderer)} if steered else {}  # or the second run comes from the cache
    browser.evaluate(WIRE, VALUES[file.stem] | seed)
    saved = browser.evaluate("async () => (await app.graphToPrompt()).workflow")
    assert browser.prompt() == to_prompt(saved, browser.info)
    browser.evaluate(WATCH)
    if file.stem != "Dial a slider":  # makes no picture by itself
        assert browser.wait_for_pictures(browser.run())
    if steered:  # what SEGA Guidance inside says, seen from outside
        browser.page.wait_for_function("() => window.told")


# Where the subgraph's node shows a picture, in pixels of the page: left, top, width, height.
PLACE = """() => {
    const node = app.graph._nodes.find(node => node.isSubgraphNode?.())
    const image = document.querySelector(`[data-node-id="${node.id}"] img`)
    if (LiteGraph.vueNodesMode) {
        if (!image?.naturalWidth) return null
        const {x, y, width, height} = image.getBoundingClientRect() // it is as large as it can be in there
        const side = Math.min(width, height)
        return [x + (width - side) / 2, y + (height - side) / 2, side, side]
    }
    const widget = node.widgets.find(widget => widget.name === '$$mask')
    if (!widget?.computedHeight) return null
    const {scale, offset} = app.canvas.ds, {left, top} = app.canvas.canvas.getBoundingClientRect()
    const side = Math.min(node.size[0] - 20, node.size[1] - widget.y - 10)
    const [x, y] = [node.pos[0] + (node.size[0] - side) / 2, node.pos[1] + (node.size[1] + widget.y - side) / 2]
    return [left + (x + offset[0]) * scale, top + (y + offset[1]) * scale, side * scale, side * scale]
}"""
MOVE = """() => {
    const {pos} = app.graph._nodes.find(node => node.isSubgraphNode?.())
    Object.assign(app.canvas.ds, {scale: 1, offset: [200 - pos[0], 120 - pos[1]]})
    app.canvas.setDirty(true, true)
}"""


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_mask_is_seen_on_the_node_from_outside(browser, quiet, renderer):
    name = "Edit a photo (DiffEdit)"
    browser.renderer(RENDERERS[renderer])
    browser.evaluate(AROUND, [CHECKPOINT, EXAMPLE])
    insert(browser, name)
    browser.evaluate(WIRE, VALUES[name])
    outputs = browser.run()["outputs"]
    (picture,) = next(output["images"] for output in outputs.values() if "outline" in output)
    picture = Image.open(io.BytesIO(browser.server.client.view(picture))).convert("RGB")
    browser.evaluate(MOVE)
    browser.page.wait_for_function(f"() => ({PLACE})()")
    browser.page.wait_for_timeout(1000)
    x, y, width, height = browser.evaluate(PLACE)
    screen = Image.open(io.BytesIO(browser.page.screenshot())).convert("RGB").crop((x, y, x + width, y + height))
    seen, sent = (np.asarray(each.resize((48, 48)), float) for each in (screen, picture))
    assert np.corrcoef(seen.ravel(), sent.ravel())[0, 1] > 0.9  # a node may be half transparent


def test_the_strength_of_a_slider_is_one_in_the_page(browser):
    browser.evaluate("() => app.graph.clear()")
    insert(browser, "Dial a slider")
    shown = browser.evaluate("""() => app.graph._nodes.at(-1).widgets.filter(widget => widget.name === 'strength')
        .map(({type, options}) => [type, options.min, options.max, options.step2])""")
    assert shown == [["slider", -3, 3, 0.1]]


def test_what_is_shown_of_a_blueprint_is_in_the_packs_words(browser):
    browser.evaluate("() => app.graph.clear()")
    file = FOLDER / "Edit a photo (DiffEdit).json"
    insert(browser, file.stem)
    labels = browser.evaluate("() => app.graph._nodes.at(-1).inputs.map(input => input.label ?? input.name)")
    assert labels == [slot.get("label", slot["name"]) for slot in parts(file)[1]["inputs"]]
