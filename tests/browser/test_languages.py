"""Choices of a combo and the text of an empty box in the page's language; what is saved and sent stays English."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.browser

CONCEPT = "app.graph._nodes.find(({comfyClass}) => comfyClass === 'SEGAConcept')"
RENDERERS = {"on a canvas": False, "as elements": True}
# What the page shows of a combo: the element's text, or what the canvas draws.
DIRECTION = f"""() => LiteGraph.vueNodesMode
    ? document.querySelector(`[data-node-id="${{{CONCEPT}.id}}"]`).textContent : {CONCEPT}.widgets[1]._displayValue"""
PUT = f"value => {{ {CONCEPT}.widgets[1].value = value }}"


@pytest.mark.parametrize("renderer", RENDERERS)
def test_choices_are_shown_in_the_pages_language_and_sent_in_english(browser, root, renderer):
    words = json.loads((root / "locales/zh/nodeDefs.json").read_text("utf-8"))["SEGAConcept"]["inputs"]
    browser.stage("sega_one_concept")
    assert browser.evaluate(DIRECTION) == "add"
    sent = browser.prompt()
    browser.set(Comfy_Locale="zh")
    try:
        browser.open()
        browser.renderer(RENDERERS[renderer])
        browser.stage("sega_one_concept")
        for direction in ("remove", "add"):
            browser.evaluate(PUT, direction)
            text = words["direction"]["choices"][direction]
            browser.page.wait_for_function(f"text => ({DIRECTION})().includes(text)", arg=text)
        assert browser.evaluate(f"() => {CONCEPT}.widgets[0].element.placeholder") == words["text"]["placeholder"]
        assert [node["inputs"] for node in browser.prompt().values()] == [node["inputs"] for node in sent.values()]
    finally:
        browser.set(Comfy_Locale="en")
        browser.open()


def test_a_choice_is_picked_from_the_list_of_translated_ones(browser):
    """In Nodes 2.0, by a click on the words."""
    browser.set(Comfy_Locale="ko")
    try:
        browser.open()
        browser.renderer(True)
        browser.stage("sega_one_concept")
        node = browser.evaluate(f"() => {CONCEPT}.id")
        browser.page.locator(f"[data-node-id='{node}']").get_by_text("추가 (add)").first.click()
        browser.page.get_by_role("option", name="제거 (remove)").click()
        browser.page.wait_for_function("id => app.graph.getNodeById(id).widgets[1].value === 'remove'", arg=node)
        assert browser.prompt()[str(node)]["inputs"]["direction"] == "remove"
    finally:
        browser.set(Comfy_Locale="en")
        browser.open()
