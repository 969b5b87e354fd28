"""What people find in the page: the pack without errors, its nodes in the search, its templates, its help."""

from __future__ import annotations

import contextlib
import re

import pytest

from devtools.demo.scenes import LEFT_OUT, SCENES, workflow_file
from devtools.server.server import PACK
from devtools.server.workflows import load

pytestmark = pytest.mark.browser

NAMES = sorted({*SCENES, *LEFT_OUT})
RENDERERS = {"canvas": False, "elements": True}
SELECTED = """name => {
    app.graph.clear()
    const node = LiteGraph.createNode(name)
    node.pos = [300, 300]
    app.graph.add(node)
    app.canvas.selectItems([node])
}"""
# For each node its paper's name (where it has one) and words that a user would type.
WORDS = {
    "SEGAConcept": ("SEGA", "expression", "add glasses", "glasses", "smile", "face edit", "眼镜", "笑顔", "미소"),
    "SEGAConceptConditioning": ("SEGA", "attribute"),
    "SEGAGuidance": ("SEGA", "add object", "image editing", "语义引导"),
    "SEGASampler": ("SEGA", "remove object"),
    "SEGASweep": ("SEGA", "xy plot"),
    "SEGAReport": ("SEGA", "verdict"),
    "SEGASaveVectors": ("SEGA", "save vectors"),
    "SEGALoadVectors": ("SEGA", "load vectors"),
    "SEGAApplyVectors": ("SEGA", "apply vectors"),
    "DDIMInvert": ("DDIM inversion", "unsample", "noise inversion", "反演"),
    "DiffEditMask": ("DiffEdit", "auto mask", "mask from prompt", "text to mask", "文字遮罩", "自動マスク"),
    "DiffEditSampler": ("DiffEdit", "inpaint"),
    "InstructPix2PixGuider": ("InstructPix2Pix", "edit photo", "edit image", "指令编辑"),
    "SliderLoRALoader": (
        "Concept Sliders",
        "lora schedule",
        "lora strength schedule",
        "slider",
        "滑块",
        "スライダー",
        "슬라이더",
    ),
    "SliderSweep": ("Concept Sliders", "compare strengths"),
    "TextDirection": ("text slider", "prompt arithmetic"),
    "LabelledStrip": ("contact sheet", "compare strip", "비교"),
    "SliderTrainText": ("Concept Sliders", "train slider", "train LoRA"),
    "SliderTrainImages": ("Concept Sliders", "image pairs", "before after"),
    "DreamBoothTrain": ("DreamBooth", "my cat", "train LoRA"),
}


@pytest.fixture
def empty_graph(browser):
    browser.evaluate("() => app.graph.clear()")


def test_the_page_loads_the_pack_without_errors(browser, root):
    browser.errors.clear()
    browser.open()
    assert [error for error in browser.errors if PACK in error] == []
    loaded = browser.evaluate(
        "() => performance.getEntriesByType('resource').map(entry => new URL(entry.name).pathname)"
    )
    scripts = {f"/extensions/{PACK}/{file.relative_to(root / 'web').as_posix()}" for file in root.glob("web/**/*.js")}
    assert scripts <= set(loaded)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_every_node_is_added_through_the_search(browser, our_nodes, empty_graph, quiet, renderer):
    """As a user does it: a double click on the canvas, the name, a click on what is found."""
    browser.renderer(RENDERERS[renderer])
    for name, entry in our_nodes.items():
        add(browser.page, entry["display_name"])
        browser.page.wait_for_function("name => app.graph._nodes.at(-1)?.comfyClass === name", arg=name)
        browser.evaluate("() => app.graph.clear()")


@pytest.mark.parametrize("renderer", RENDERERS)
def test_every_blueprint_is_added_through_the_search(browser, empty_graph, quiet, root, renderer):
    browser.renderer(RENDERERS[renderer])
    for file in sorted(root.glob("subgraphs/*.json")):
        add(browser.page, file.stem)
        browser.page.wait_for_function("() => app.graph._nodes.at(-1)?.isSubgraphNode()")
        browser.evaluate("() => app.graph.clear()")


def add(page, title):
    """Search for a title and put what is found on the canvas."""
    field = open_search(page)
    field.fill(title)
    page.get_by_test_id("result-item").filter(has_text=title).first.click()
    field.wait_for(state="hidden")
    page.wait_for_function("() => app.graph._nodes.length")
    page.mouse.click(700, 300)  # the new node hangs at the pointer until a click puts it down


def open_search(page):
    """The search's text field."""
    from playwright.sync_api import TimeoutError

    field = page.get_by_role("combobox", name="Add a node...")
    for _ in range(5):  # a busy machine may not see two clicks as a double click
        page.mouse.dblclick(500, 700)
        with contextlib.suppress(TimeoutError):
            field.wait_for(timeout=6000)
            break
    return field


def test_every_node_is_found_by_its_paper_and_by_a_users_word(browser, our_nodes):
    assert set(WORDS) == set(our_nodes)
    search = "store.nodeSearchService.searchNode(value, [], {limit: 64}).map(node => node.name)"
    missed = [(name, word) for name, words in WORDS.items() for word in words
              if name not in browser.store("nodeDef", search, word)]  # fmt: skip
    assert missed == []


def test_every_workflow_opens_from_its_tile_in_templates(browser, quiet):
    page = browser.page
    tiles = open_templates(browser)
    assert tiles.count() == len(NAMES)
    for name in NAMES:
        file = workflow_file(name)
        tile = page.get_by_test_id(f"template-workflow-{file.stem}")
        tile.scroll_into_view_if_needed()
        page.wait_for_function("img => img.complete && img.naturalWidth > 0", arg=tile.locator("img").element_handle())
        tile.click()
        page.get_by_role("dialog").wait_for(state="hidden")
        page.wait_for_function("count => app.graph._nodes.length === count", arg=len(load(file)["nodes"]))
        assert not browser.store("missingNodesError", "store.hasMissingNodes")
        browser.evaluate("async () => { const tabs = app.extensionManager.workflow;"
                         " await tabs.closeWorkflow(tabs.activeWorkflow) }")  # fmt: skip
        open_templates(browser)
    page.keyboard.press("Escape")


def open_templates(browser):
    """The tiles of the pack in the Templates dialog."""
    page = browser.page
    page.get_by_test_id("side-toolbar").get_by_role("button", name="Templates").click()
    page.get_by_role("dialog").get_by_text(PACK, exact=True).first.click()
    tiles = page.locator("[data-testid^=template-workflow-]")
    tiles.first.wait_for()
    return tiles


# What a help page holds that is wider than its panel.
WIDER = """help => [...help.querySelectorAll("*")].filter(element => element.scrollWidth > element.clientWidth + 1
    && element.clientWidth > 0 || element.getBoundingClientRect().right > help.getBoundingClientRect().right + 1)
    .map(element => `${element.tagName}: ${element.textContent.slice(0, 60)}`)"""


def test_help_opens_for_every_node(browser, our_nodes, empty_graph, quiet, root):
    page = browser.page
    for name in our_nodes:
        browser.evaluate(SELECTED, name)
        if not page.locator(".node-help-content").count():
            page.get_by_test_id("info-button").click()
        text = (root / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
        title = re.search(r"^# (.*)$", text, re.MULTILINE)
        assert title is not None
        page.locator(".node-help-content").get_by_role("heading", name=title[1], exact=True).wait_for()
        pictures = page.locator(".node-help-content img")
        assert pictures.count() == len(re.findall(r"!\[|<img ", text))
        for picture in pictures.element_handles():
            page.wait_for_function("img => img.complete", arg=picture)
            assert picture.evaluate("img => img.naturalWidth") > 0, f"{name}: {picture.get_attribute('src')}"
        wide = page.locator(".node-help-content").evaluate(WIDER)
        assert not wide, f"{name}: {wide}"
