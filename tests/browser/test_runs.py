"""Running in the page: every workflow file, bypassed nodes, the cache, Cancel, and a node's error."""

from __future__ import annotations

import json

import pytest

from devtools.demo.scenes import LEFT_OUT, SCENES, SIZE, workflow_file
from devtools.server.client import PromptError, PromptInterrupted
from devtools.server.results import view
from devtools.server.workflows import BYPASSED, load, to_prompt

pytestmark = pytest.mark.browser

NAMES = sorted({*SCENES, *LEFT_OUT})
WHOLE = {"sega_one_concept", "slider_basic", "diffedit_replace"}  # run as the demo does, the others with fewer steps
INVERTED = {"ddim_invert_reconstruct", "diffedit_manual_mask", "sega_on_a_photo"}  # with fewer the inversion fails
FEW = {"steps": 4, "maps": 2}
SAFE = {"SEGAConcept", "SEGAGuidance", "SliderLoRALoader", "LabelledStrip"}  # an input stands for what they make

OVERLAPS = """() => {
    const boxes = app.graph._nodes.map(
        ({title, boundingRect: [x, y, w, h]}) => ({title, x, y, right: x + w, down: y + h}))
    return boxes.flatMap((one, i) => boxes.slice(i + 1)
        .filter(({x, y, right, down}) => x < one.right && one.x < right && y < one.down && one.y < down)
        .map(({title}) => [one.title, title]))
}"""


def only(prompt, kind):
    """The id of the one node of a kind."""
    (found,) = (node_id for node_id, node in prompt.items() if node["class_type"] == kind)
    return found


def kind(prompt, link):
    """The class of the node at the other end of a link."""
    return prompt[link[0]]["class_type"]


def samplers(prompt):
    """The ids of the stock samplers."""
    return [node_id for node_id, node in prompt.items() if node["class_type"] == "KSampler"]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_makes_the_prompt_that_dev_py_makes(browser, name):
    workflow = load(workflow_file(name))
    browser.load(workflow)
    assert browser.prompt() == to_prompt(workflow, browser.info)


@pytest.mark.parametrize(
    ("name", "elements"),
    [(name, elements) for name in sorted(SCENES) for elements in (True, False)],
)
def test_a_workflow_runs_and_shows_its_pictures(browser, quiet, name, elements):
    browser.renderer(elements)
    prompt = browser.stage(name, **({} if name in WHOLE else {"steps": 12} if name in INVERTED else FEW))
    assert browser.prompt() == prompt
    entry = browser.run()
    shown = browser.wait_for_pictures(entry)
    assert shown, "no node gave out pictures"
    browser.page.wait_for_timeout(500)  # nodes grow with what they show
    assert browser.evaluate(OVERLAPS) == []


def compared(browser, prompt, outputs):
    """The two pictures of the strip at a workflow's end."""
    sheet = view(browser.server.client, outputs[only(prompt, "LabelledStrip")]["images"][0])
    gap = (sheet.width - 2 * SIZE) // 3
    assert sheet.width == 2 * SIZE + 3 * gap
    top = sheet.height - gap - SIZE
    return [sheet.crop((left, top, left + SIZE, top + SIZE)) for left in (gap, 2 * gap + SIZE)]


def set_mode(browser, node_id, mode):
    """What Ctrl-B does to a node of the graph, and undoes."""
    browser.evaluate("([id, mode]) => { app.graph.getNodeById(id).mode = mode }", [node_id, mode])


@pytest.mark.parametrize("name", NAMES)
def test_each_of_our_nodes_can_be_bypassed(browser, our_nodes, name):
    """The page sends what dev.py makes of the file with that node bypassed."""
    workflow = load(workflow_file(name))
    for node in workflow["nodes"]:
        if node["type"] in our_nodes:
            changed = json.loads(json.dumps(workflow))
            next(entry for entry in changed["nodes"] if entry["id"] == node["id"])["mode"] = BYPASSED
            browser.load(workflow)
            set_mode(browser, node["id"], BYPASSED)
            assert browser.prompt() == to_prompt(changed, browser.info), node["type"]


def lacks_inputs(prompt, info):
    """Whether a node of the prompt has nothing for an input that it needs."""
    return any(info[node["class_type"]]["input"]["required"].keys() - node["inputs"].keys() for node in prompt.values())


def test_the_server_takes_a_bypassed_node(browser, our_nodes):
    """Or says which input is missing, where nothing can stand for what the node makes: an inversion, a mask."""
    client = browser.server.client
    browser.stage("sega_one_concept", steps=5000)
    running = browser.press_run()
    for name in SCENES:  # all of them are checked and wait behind this run
        for node_id, node in browser.stage(name).items():
            if node["class_type"] not in our_nodes:
                continue
            set_mode(browser, node_id, BYPASSED)
            bypassed = browser.prompt()
            if lacks_inputs(bypassed, browser.info):
                assert node["class_type"] not in SAFE
                with pytest.raises(PromptError, match="Required input is missing"):
                    client.queue(bypassed)
            else:
                client.queue(bypassed)
            set_mode(browser, node_id, 0)
    client.clear()
    client.interrupt()
    with pytest.raises(PromptInterrupted):
        client.wait(running)


def test_a_bypassed_concept_gives_the_stock_picture(browser):
    prompt = browser.stage("sega_one_concept", **FEW)
    set_mode(browser, only(prompt, "SEGAConcept"), BYPASSED)
    before, after = compared(browser, prompt, browser.run()["outputs"])
    assert before.tobytes() == after.tobytes()


def test_with_another_word_only_the_edit_runs_again(browser):
    prompt = browser.stage("sega_one_concept", **FEW)
    first = compared(browser, prompt, browser.run()["outputs"])
    concept = only(prompt, "SEGAConcept")
    browser.put({concept: {"inputs": {"text": "hat"}}})
    entry = browser.run()
    second = compared(browser, prompt, entry["outputs"])
    (plain, steered) = sorted(samplers(prompt), key=lambda node: kind(prompt, prompt[node]["inputs"]["model"]))
    cached = next(message["nodes"] for event, message in entry["status"]["messages"] if event == "execution_cached")
    assert plain in cached
    assert not {concept, steered} & set(cached)
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() != second[1].tobytes()


def test_cancel_ends_a_long_run_at_once(browser):
    """Counted in steps from the moment that the server has answered the page."""
    prompt = browser.stage("sega_one_concept", steps=500)
    page = browser.page
    browser.evaluate(
        "() => { window.step = 0; app.api.addEventListener('progress', event => { window.step = event.detail.value }) }"
    )
    started = browser.press_run()
    page.wait_for_function("() => window.step >= 3")
    with page.expect_response("**/interrupt"):
        page.get_by_role("button", name="Cancel current run").click()
    step = browser.evaluate("() => window.step")
    with pytest.raises(PromptInterrupted):
        browser.server.client.wait(started)
    page.wait_for_function("id => endedPrompts.includes(id)", arg=started)
    assert step <= browser.evaluate("() => window.step") <= step + 5
    browser.put({node: {"inputs": {"steps": 3}} for node in samplers(prompt)})
    browser.wait_for_pictures(browser.run())


@pytest.mark.parametrize("file_id", ["as it ships", "semantic-steering-sega-one-concept"])
def test_an_error_shows_on_its_node_with_its_text(browser, file_id):
    """Newer pages lost it for files whose id is no UUID, as that of earlier templates (web/workflow_id.js)."""
    prompt = browser.stage("sega_one_concept", **FEW)
    if file_id != "as it ships":
        browser.load({**browser.evaluate("() => app.rootGraph.serialize()"), "id": file_id})
    concept = only(prompt, "SEGAConcept")
    browser.put({concept: {"inputs": {"text": ""}}})
    with pytest.raises(PromptError, match="text"):
        browser.run()
    button = browser.page.get_by_test_id("error-overlay-see-errors")
    text = browser.page.get_by_text("text is empty; write what should change")
    button.or_(text).first.wait_for()  # some pages show the errors without being asked
    if button.count():
        button.click()
    text.first.wait_for()
    assert browser.store("executionError", "store.lastExecutionErrorNodeId") == concept
