"""ComfyUI's page in a real Chromium: load a workflow file, run it as a user does, look at what it shows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image
from playwright.sync_api import ConsoleMessage, Page, Response, TimeoutError, sync_playwright

from ..demo.demo import place
from ..demo.scenes import SCENES, SIZE, override, workflow_file
from ..server.client import Prompt, PromptError, refusal
from ..server.server import CHECKPOINT, Server
from ..server.workflows import load, to_prompt
from .chromium import HOW, find

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
VIEW = {"width": 1600, "height": 1000}
WIDEST, QUALITY = 880, 45  # of a screenshot: its smallest letters can be read
MARGIN = 16  # pixels around the graph in a screenshot
MENU_AWAY = "button[aria-live='assertive'] { display: none }"

READY = "() => window.app?.vueAppReady && app.graph && app.extensionManager?.setting"
TAB = "() => app.extensionManager.workflow.activeWorkflow"
TAB_WITHIN = 10_000  # milliseconds
# The prompts whose end the page has been told.
LISTEN = """() => {
    window.endedPrompts = []
    for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
        app.api.addEventListener(kind, event => window.endedPrompts.push(event.detail.prompt_id))
}"""
# In a tab of its own, because pictures of nodes with the same ids stay in a tab; the old one is closed.
LOAD = """async workflow => {
    const tabs = app.extensionManager.workflow, old = tabs.activeWorkflow
    await app.loadGraphData(workflow, true, true, null, {skipAssetScans: true})
    await tabs.closeWorkflow(old)
}"""
NODE = "path => path.split(':').reduce((found, id) => (found.subgraph ?? found).getNodeById(id), app.graph.rootGraph)"
PUT = f"""prompt => {{
    const nodeAt = {NODE}
    for (const [path, {{inputs}}] of Object.entries(prompt))
        for (const [name, value] of Object.entries(inputs)) {{
            const widget = nodeAt(path).widgets?.find(widget => widget.name === name)
            if (!widget || value instanceof Object || widget.value === value) continue
            widget.callback?.(value)
            widget.value = value // the callback of a number rounds it as typing does
        }}
}}"""
# How many pictures each of these nodes shows: on the canvas, as elements of the page, or drawn by its own widget.
SHOWN = f"""ids => {{
    const nodeAt = {NODE}
    const loaded = picture => picture.complete && picture.naturalWidth > 0
    const drawn = canvas => canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data[3] > 0
    return ids.map(id => {{
        const node = nodeAt(id), parts = [document.querySelector(`[data-node-id="${{id}}"]`)]
        parts.push(...(node.widgets ?? []).map(widget => widget.element))
        const inside = kind => parts.flatMap(part => [...part?.querySelectorAll(kind) ?? []])
        return [...inside('img'), ...node.imgs ?? []].filter(loaded).length + inside('canvas').filter(drawn).length
    }})
}}"""
MOVE = "offset => { Object.assign(app.canvas.ds, {scale: 1, offset}); app.canvas.setDirty(true, true) }"
BOUNDS = """() => {
    let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity]
    for (const {boundingRect: [x, y, width, height]} of [...app.graph._nodes, ...app.graph._groups.map(
        group => ({boundingRect: group.boundingRect ?? group._bounding}))]) {
        left = Math.min(left, x), top = Math.min(top, y)
        right = Math.max(right, x + width), bottom = Math.max(bottom, y + height)
    }
    return [left, top, right - left, bottom - top]
}"""


class BrowserError(Exception):
    """There is no Chromium, or the page does not do what it should."""


class Browser:
    """The page of a running server in Chromium while the `with` block runs, ready and without its first dialog.

    `errors` collects what the page says on its console as errors, and its uncaught exceptions.
    """

    def __init__(self, server: Server):
        self.server = server
        self.info = server.client.object_info()
        self.errors: list[str] = []
        self._page: Page | None = None

    @property
    def page(self) -> Page:
        """Playwright's own handle."""
        assert self._page is not None  # only used inside the with block
        return self._page

    def __enter__(self) -> Browser:
        chromium = find()
        if chromium is None:
            raise BrowserError(HOW)
        self._playwright = sync_playwright().start()
        try:
            self._chromium = self._playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            self._page = self._chromium.new_page(viewport=VIEW)  # pyright: ignore[reportArgumentType]
            self.page.set_default_timeout(30_000)  # of a busy machine
            self.page.on("console", self._console)
            self.page.on("pageerror", lambda error: self.errors.append(f"{error.message}\n{error.stack or ''}"))
            self.open()
        except BaseException:
            self._playwright.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chromium.close()
        self._playwright.stop()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def open(self) -> None:
        """Load the page anew. A user's first visit shows the Templates dialog, which is closed."""
        first_visit = "Comfy.TutorialCompleted" not in json.loads(self.server.client.get("/settings"))
        self.page.goto(self.server.url)
        self.page.wait_for_function(READY)
        try:
            self.page.wait_for_function(TAB, timeout=TAB_WITHIN)
        except TimeoutError:  # a page of 1.58 that is loaded again soon after a change may come without a tab
            self.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
            self.page.wait_for_function(TAB)
        self.page.evaluate(LISTEN)
        if first_visit:
            self.page.get_by_role("dialog").wait_for()
            self.page.keyboard.press("Escape")
            self.page.get_by_role("dialog").wait_for(state="hidden")
        self.set(Comfy_Pointer_DoubleClickTime=1000)  # the clicks of a busy machine are far apart

    def evaluate(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def store(self, name: str, expression: str, argument: Any = None) -> Any:
        """What an expression gives of one of the page's own stores, `store`; `argument` is `value` in it."""
        pinia = "document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia"
        return self.evaluate(f"value => {{ const store = {pinia}._s.get('{name}'); return {expression} }}", argument)

    def set(self, **settings: Any) -> None:
        """Change settings of the page, by name with `_` for `.`."""
        script = "async values => { for (const v of values) await app.extensionManager.setting.set(...v) }"
        self.evaluate(script, [[name.replace("_", "."), value] for name, value in settings.items()])

    def renderer(self, elements: bool) -> None:
        """Nodes as elements of the page (Nodes 2.0) or drawn on a canvas (the default of a fresh local ComfyUI)."""
        self.set(Comfy_VueNodes_Enabled=elements)
        self.page.wait_for_function("wanted => LiteGraph.vueNodesMode === wanted", arg=elements)

    def load(self, workflow: dict[str, Any]) -> None:
        """Show a workflow file's content in place of the present one, without a look for its models."""
        self.evaluate(LOAD, workflow)

    def prompt(self) -> Prompt:
        """What the page would send if Run were pressed."""
        sent = self.evaluate("async () => (await app.graphToPrompt()).output")
        # Newer pages say there as well which pack a node is from.
        return {key: {**node, "_meta": {"title": node["_meta"]["title"]}} for key, node in sent.items()}

    def put(self, prompt: Prompt) -> None:
        """Set the widgets to a prompt's values, as if they had been saved in the file; its links are not looked at."""
        self.evaluate(PUT, prompt)
        self.load(self.evaluate("() => app.rootGraph.serialize()"))

    def stage(self, name: str, **changes: Any) -> Prompt:
        """Show a scene's workflow file with what the demo puts into it; returns the prompt that the demo sends.

        changes: inputs that are changed besides, in every node that has them.
        """
        workflow, scene = load(workflow_file(name)), SCENES[name]
        seed = scene.seeds[0]
        picture = None if scene.portrait is None else place(self.server.base, f"{name}.png", scene, seed)
        prompt = override(workflow, to_prompt(workflow, self.info), CHECKPOINT, SIZE, scene, seed, picture)
        for node in prompt.values():
            node["inputs"] |= {key: value for key, value in changes.items() if key in node["inputs"]}
        self.load(workflow)
        self.put(prompt)
        return prompt

    def press_run(self) -> str:
        """Press Run; returns the id of the prompt, or raises what the server refused."""
        with self.page.expect_response(_is_prompt) as sent:
            self.page.get_by_test_id("queue-button").click()
        answer = sent.value.json()
        if not sent.value.ok or answer["node_errors"]:
            raise PromptError(refusal(answer))
        return answer["prompt_id"]

    def run(self) -> dict[str, Any]:
        """Press Run and wait until the page knows of the end; returns the prompt's entry in the history."""
        prompt_id = self.press_run()
        entry = self.server.client.wait(prompt_id)
        self.page.wait_for_function("id => endedPrompts.includes(id)", arg=prompt_id)
        return entry

    def wait_for_pictures(self, entry: dict[str, Any]) -> list[str]:
        """Wait until every node that gave out pictures shows one; returns their ids."""
        shown = {node: output for node, output in entry["outputs"].items() if pictures(output)}
        ids = [node for node in shown if ":" not in node]  # those inside a subgraph are not drawn
        self.page.wait_for_function(f"ids => ({SHOWN})(ids).every(Boolean)", arg=ids)
        return ids

    def screenshot(self, file: Path) -> None:
        """Write the graph, cut to its nodes and without the page's bars and panels, as a webp."""
        self.set(
            Comfy_Minimap_Visible=False, Comfy_Graph_CanvasInfo=False, Comfy_Graph_CanvasMenu=False,
            Comfy_RightSidePanel_IsOpen=False,
        )  # fmt: skip
        self.evaluate("() => { app.extensionManager.focusMode = true }")
        left, top, width, height = self.evaluate(BOUNDS)
        self.page.set_viewport_size({"width": round(width + 2 * MARGIN), "height": round(height + 2 * MARGIN)})
        self.evaluate(MOVE, [MARGIN - left, MARGIN - top])
        self.page.wait_for_timeout(1000)  # several frames, on a machine without a GPU
        picture = Image.open(io.BytesIO(self.page.screenshot(style=MENU_AWAY))).convert("RGB")
        self.evaluate("() => { app.extensionManager.focusMode = false }")
        self.page.set_viewport_size(VIEW)  # pyright: ignore[reportArgumentType]
        picture.thumbnail((WIDEST, WIDEST * 2), Image.Resampling.LANCZOS)
        picture.save(file, quality=QUALITY, method=6)


def pictures(output: dict[str, Any]) -> list[dict[str, str]]:
    """The pictures that a node gave to the page."""
    lists = [value for value in output.values() if isinstance(value, list)]
    return [item for items in lists for item in items if isinstance(item, dict) and "filename" in item]


def _is_prompt(response: Response) -> bool:
    return response.request.method == "POST" and response.url.endswith("/prompt")
