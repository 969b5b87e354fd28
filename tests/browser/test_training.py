"""The button of the nodes that train, in the page: it ends the training, and the prompt goes on with the slider."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

RENDERERS = {"canvas": False, "elements": True}
LONG = 90_000  # steps that no test waits for; one more in the other renderer, or the host's cache would answer
LABEL = "Finish now"
# Where a canvas shows the node's button, in pixels of the page.
PLACE = """id => {
    const node = app.graph.getNodeById(id), widget = node.widgets.find(({type}) => type === 'button')
    const [x, y] = app.canvas.ds.convertOffsetToCanvas([node.pos[0] + node.size[0] / 2, node.pos[1] + widget.y + 10])
    const {left, top} = app.canvas.canvas.getBoundingClientRect()
    return [left + x, top + y]
}"""
SET_STEPS = """([id, steps]) => {
    app.graph.getNodeById(id).widgets.find(({name}) => name === 'steps').value = steps
}"""
PREVIEWED = "id => app.nodePreviewImages[id]?.length > 0 || Boolean(app.graph.getNodeById(id).imgs?.length)"


@pytest.fixture(params=RENDERERS)
def trainer(browser, quiet, request):
    """The id of the node that trains, in the workflow file with many steps, a strip after each fifth."""
    browser.renderer(RENDERERS[request.param])
    prompt = browser.stage("slider_train_text", show_every=5)
    (found,) = (node_id for node_id, node in prompt.items() if node["class_type"] == "SliderTrainText")
    browser.evaluate(SET_STEPS, [found, LONG + RENDERERS[request.param]])
    yield found, RENDERERS[request.param]
    for file in (browser.server.base / "output" / "loras").glob("*.training"):
        file.unlink()  # or the next training would go on from it


def press(browser, node, elements):
    """The node's button, as a user presses it."""
    if elements:
        browser.page.locator(f"[data-node-id='{node}']").get_by_role("button", name=LABEL).click()
    else:
        browser.page.mouse.click(*browser.evaluate(PLACE, node))


def test_finish_now_ends_the_training_and_the_prompt_goes_on(browser, trainer):
    node, elements = trainer
    prompt_id = browser.press_run()
    browser.page.wait_for_function(PREVIEWED, arg=node)  # the strip that grows while it trains
    press(browser, node, elements)
    entry = browser.server.client.wait(prompt_id)
    assert len(entry["outputs"][node]["images"]) == 1
    assert list((browser.server.base / "output" / "loras").glob("*.training"))  # it can go on: it was not done
    assert browser.wait_for_pictures(entry)
    assert list((browser.server.base / "output" / "loras").glob("smile_slider_*.safetensors"))
    # The page would keep the live strip beside the node's own.
    browser.page.wait_for_function("id => app.nodePreviewImages[id] === undefined", arg=node)
    if elements:
        strips = browser.page.locator(f"[data-node-id='{node}'] img")
        strips.first.wait_for()
        browser.page.wait_for_timeout(1000)
        assert strips.count() == 1


def test_finish_now_says_where_nothing_trains(browser, trainer):
    node, elements = trainer
    said = browser.page.get_by_text("Nothing is being trained here now")
    browser.page.wait_for_function("() => !document.querySelector('.p-toast-detail')")  # of an earlier press
    press(browser, node, elements)
    said.first.wait_for()
    browser.page.wait_for_timeout(500)
    assert said.count() == 1


def test_the_button_is_not_in_the_saved_workflow(browser, trainer):
    node, _ = trainer
    saved = browser.evaluate("id => app.graph.getNodeById(id).serialize().widgets_values", node)
    assert saved[-2:] == [5.0, "diffusion model"] and LABEL not in saved and "finish" not in saved
