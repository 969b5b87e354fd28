"""ComfyUI's page in a real Chromium, against a real server with the pack and the demo's models.

Where there is no Chromium the tests are skipped; SEMANTIC_STEERING_BROWSER=required makes them fail instead.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from pathlib import Path

import pytest

from devtools.demo.serve import place_example
from devtools.page import chromium
from devtools.server.server import PACK, Server, lay_out

OURS = "custom_nodes.semantic-steering"  # the module that ComfyUI gives for the pack's nodes


RUNNING = contextlib.ExitStack()  # the server and its page, from the first test of this folder to its last
PAGES: list = []


@pytest.fixture
def browser(tmp_path_factory):
    """The page of a server with a fresh user folder, in the renderer that such a folder gets: one for all tests."""
    if not PAGES:
        PAGES.append(_started(tmp_path_factory))
    return PAGES[0]


def _started(tmp_path_factory):
    missing = "" if importlib.util.find_spec("playwright") else "install the package playwright"
    missing = missing or ("" if chromium.find() else f"no Chromium: {chromium.HOW}")
    if missing:
        (pytest.fail if os.environ.get("SEMANTIC_STEERING_BROWSER") == "required" else pytest.skip)(missing)
    from devtools.page.browser import Browser

    base = lay_out(tmp_path_factory.mktemp("browser"))
    place_example(base)
    return RUNNING.enter_context(Browser(RUNNING.enter_context(Server(base))))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem):
    """While Playwright runs, no test of another folder in this process can have an event loop."""
    if nextitem is None or nextitem.path.parent != Path(__file__).parent:
        PAGES.clear()
        RUNNING.close()


@pytest.fixture
def our_nodes(browser) -> dict:
    """{id: what the server says about it} of the pack's nodes."""
    return {name: entry for name, entry in browser.info.items() if entry["python_module"] == OURS}


@pytest.fixture(autouse=True)
def as_at_first(browser):
    """Without a dialog that a failed test left, and in the renderer of a fresh user folder, the faster one."""
    while browser.page.get_by_role("dialog").count():
        browser.page.keyboard.press("Escape")
        browser.page.wait_for_timeout(500)
    browser.renderer(False)


# What the page says of itself: files that a fresh user folder or a ComfyUI without its template packages lacks, and
# the sizes of missing models, which its own security policy does not let it ask for.
NOT_OURS = ("Failed to load resource", "Error loading ", "Connecting to 'https://", "Fetch API cannot load https://")

TRANSLATED_HELP = re.compile(r"/docs/\w+/en\.md")  # asked for before the page in the one language that there is


@pytest.fixture
def quiet(browser):
    """The test may not add to the page's errors."""
    browser.errors.clear()
    yield
    ours = [error for error in browser.errors if PACK in error and not TRANSLATED_HELP.search(error)]
    assert [error for error in browser.errors if error in ours or not error.startswith(NOT_OURS)] == []
