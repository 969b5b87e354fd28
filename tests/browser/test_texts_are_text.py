"""What comes from prompts and files, such as a concept's words or a slider's name, is shown as typed and never run."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from devtools.server.client import PromptError

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror='window.hit=1'><b>glasses</b>"
NAME = "<img src=x onerror='window.hit=2'>.safetensors"
RENDERERS = {"on a canvas": False, "as elements": True}
REPORTS = """() => app.graph._nodes.map(node => node.widgets?.find(({name}) => name === 'report')?.element)
    .filter(element => element?.offsetHeight).map(element => [element.textContent, element.childElementCount])"""
TITLE = "<img src=x onerror='window.hit=3'>"
RENAMED = """async title => {
    await app.loadGraphData(app.rootGraph.serialize(), true, true, title, {skipAssetScans: true})
}"""
LOADER = """() => {
    const load = LiteGraph.createNode('SEGALoadVectors'), show = LiteGraph.createNode('PreviewAny')
    app.graph.clear(), app.graph.add(load), app.graph.add(show)
    load.widgets[0].value = 'hostile.sega.safetensors'
    load.connect(0, show, 0)
}"""
TITLES = "title => { for (const node of app.graph._nodes) node.title = title }"


@pytest.fixture(params=RENDERERS)
def page(browser, request):
    browser.renderer(RENDERERS[request.param])
    browser.evaluate("() => { delete window.hit }")
    yield browser
    browser.page.wait_for_timeout(500)  # a picture that cannot be loaded says so late
    assert browser.evaluate("() => window.hit") is None


def reports(browser):
    browser.page.wait_for_function(f"() => ({REPORTS})().length", timeout=10_000)
    return browser.evaluate(REPORTS)


def test_a_workflows_name(page):
    """As a file of that name has it, in the tab and in the window's title, while its nodes say something."""
    page.stage("sega_one_concept", steps=3, text=HOSTILE)
    page.evaluate(RENAMED, TITLE)
    page.page.wait_for_function("title => document.title.includes(title)", arg=TITLE, timeout=10_000)
    assert page.evaluate("() => document.querySelectorAll('img[src=\"x\"]').length") == 0
    page.run()
    (text, elements), *_ = reports(page)
    assert text.startswith(HOSTILE) and elements == 0
    page.stage("sega_one_concept", steps=3, text=HOSTILE, start_percent=0.9, end_percent=0.1)
    page.evaluate(RENAMED, TITLE)
    with pytest.raises(PromptError, match="start_percent"):
        page.run()


def test_what_a_vectors_file_says_of_its_concepts(page):
    header = {"format": "semantic-steering concept vectors", "version": "1", "seed": "1", "sigmas": "[1.0]",
              "model": json.dumps({"latent_format": "SD15", "sampling": "EPS", "sigma_max": 14.6, "shift": None}),
              "latent_shape": "[1, 4, 8, 8]", "concepts": json.dumps([{"name": HOSTILE}])}  # fmt: skip
    file = page.server.base / "input" / "hostile.sega.safetensors"
    save_file({"gamma": torch.ones(1, 1, 4, 8, 8)}, file, header)
    try:
        page.open()  # its lists are as old as the page
        page.evaluate(LOADER)
        page.run()
        (text, elements), *_ = reports(page)
        assert text.startswith(f"{HOSTILE}; 1 noise levels") and elements == 0
    finally:
        file.unlink()


def test_a_concepts_words_and_a_nodes_title(page):
    page.stage("sega_one_concept", steps=3, text=HOSTILE, show_activity=True)
    page.evaluate(TITLES, HOSTILE)
    page.run()
    (text, _), *_ = reports(page)
    assert text.startswith(f"{HOSTILE}, in the prompt's context: ")


def test_a_sliders_file(page):
    folder = page.server.base / "models" / "loras"
    file = folder / NAME
    if not file.exists():
        file.write_bytes((folder / "smile.safetensors").read_bytes())
    try:
        page.stage("slider_basic", steps=3, lora_name=NAME)
        page.run()
        (text, _), *_ = reports(page)
        assert text.startswith("matched 40 of 40 layers")
    finally:
        file.unlink()


def test_a_refusal_holds_it_as_text(page):
    page.stage("sega_one_concept", steps=3, text=HOSTILE, start_percent=0.9, end_percent=0.1)
    page.evaluate(TITLES, HOSTILE)
    with pytest.raises(PromptError, match="start_percent"):
        page.run()
    page.page.wait_for_timeout(500)
