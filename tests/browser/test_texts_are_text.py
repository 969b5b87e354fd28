"""What comes from prompts and files, such as a concept's words or a slider's name, is shown as typed and never run."""

from __future__ import annotations

import pytest

from devtools.server.client import PromptError

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror='window.hit=1'><b>glasses</b>"
NAME = "<img src=x onerror='window.hit=2'>.safetensors"
RENDERERS = {"on a canvas": False, "as elements": True}
REPORTS = """() => app.graph._nodes.map(node => node.widgets?.find(({name}) => name === 'report')?.element)
    .filter(element => element?.offsetHeight).map(element => [element.textContent, element.childElementCount])"""
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
        assert text.startswith("matched 32 of 32 layers")
    finally:
        file.unlink()


def test_a_refusal_holds_it_as_text(page):
    page.stage("sega_one_concept", steps=3, text=HOSTILE, start_percent=0.9, end_percent=0.1)
    page.evaluate(TITLES, HOSTILE)
    with pytest.raises(PromptError, match="start_percent"):
        page.run()
    page.page.wait_for_timeout(500)
