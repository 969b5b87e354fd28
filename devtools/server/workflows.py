"""Workflow files (the page's format) as prompts (the API's format), against a server's `/object_info`.

It does what the page does when Run is pressed: names the widget values that files store by position, follows links
through reroutes, primitives, bypassed nodes and subgraphs, and leaves out muted nodes and notes. Whatever it does
not know is a WorkflowError that names the node.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .client import Prompt

MUTED, BYPASSED = 2, 4
NOTES = ("Note", "MarkdownNote")
GRAPH_INPUT, GRAPH_OUTPUT = "-10", "-20"  # the ids that a subgraph's links use for its own inputs and outputs
VALUE_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
UNSAVED_WIDGETS = {"IMAGECOMPARE": ["", ""]}  # what the page sends for widgets that it does not store in files
SEEDS = ("seed", "noise_seed")
PAGE_SYNTAX = re.compile(r"(?<!\\)\{.*\|.*\}|//|/\*", re.DOTALL)  # dynamic prompts: {a|b} and comments


class WorkflowError(Exception):
    """The file holds something that cannot be converted; the message names the node."""


class Link(NamedTuple):
    origin: str
    origin_slot: int
    target: str
    target_slot: int
    type: str


class Output(NamedTuple):
    """Another node's output, as a prompt refers to it."""

    node: str
    slot: int


@dataclass
class Constant:
    """A widget's value that stands at the other end of a link."""

    value: Any


def load(file: Path) -> dict[str, Any]:
    """A workflow file's content."""
    return json.loads(file.read_text(encoding="utf-8"))


def holder(prompt: Prompt, inputs: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """Where a node's text stands: in its input of that name, or in the primitive that is linked to it."""
    linked = inputs[name]
    return (prompt[linked[0]]["inputs"], "value") if isinstance(linked, list) else (inputs, name)


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> Prompt:
    """The prompt that the page would queue for a workflow."""
    graphs = {graph["id"]: graph for graph in workflow.get("definitions", {}).get("subgraphs", [])}
    prompt: Prompt = {}
    for level, node in _Level(workflow, graphs).executable():
        name, kind = level.name(node), node["type"]
        if kind not in object_info:
            raise WorkflowError(f"{name}: the server has no such node")
        inputs = _widget_values(name, node, object_info[kind])
        for slot in node.get("inputs") or []:
            source = None if slot.get("link") is None else level.source(slot["link"])
            if isinstance(source, Constant):
                inputs[slot["name"]] = _escaped(source.value)
            elif source is not None:
                inputs[slot["name"]] = [source.node, source.slot]
        title = node.get("title") or object_info[kind].get("display_name") or kind
        prompt[level.path(node)] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
    return prompt


def _escaped(value: Any) -> Any:
    """A list would be taken for a link."""
    return {"__value__": value} if isinstance(value, list) else value


class _Level:
    """The workflow itself, or the inside of one subgraph node (`host`) of the level above."""

    def __init__(self, data: dict, graphs: dict[str, dict], above: _Level | None = None, host: dict | None = None):
        self.data, self.graphs, self.above, self.host = data, graphs, above, host
        self.nodes: dict[str, dict] = {str(node["id"]): node for node in data["nodes"]}
        self.links = dict(_link(entry) for entry in data["links"])

    def path(self, node: dict) -> str:
        """The node's id in a prompt: the ids of the subgraph nodes around it, then its own."""
        prefix = f"{self.above.path(self.host)}:" if self.above and self.host else ""
        return f"{prefix}{node['id']}"

    def name(self, node: dict) -> str:
        return f"node {self.path(node)} ({node['type']})"

    def inside(self, node: dict) -> _Level:
        """The level inside a subgraph node, whose own values replace those of the widgets it shows."""
        inner = _Level(self.graphs[node["type"]], self.graphs, self, node)
        for node_id, widget, value in inner._host_values_by_widget():
            shown = inner.nodes[node_id]
            # In a copy of the node: the file's content stays as it is.
            inner.nodes[node_id] = {**shown, "proxied": {**shown.get("proxied", {}), widget: value}}
        return inner

    def executable(self) -> Iterator[tuple[_Level, dict]]:
        """Every real node that runs, with the level it is on."""
        for node in self.nodes.values():
            mode = node.get("mode", 0)
            if mode not in (0, MUTED, BYPASSED):
                raise WorkflowError(f"{self.name(node)}: mode {mode} is not known")
            if mode != 0 or node["type"] in (*NOTES, "Reroute", "PrimitiveNode"):
                continue
            if node["type"] in self.graphs:
                yield from self.inside(node).executable()
            else:
                yield self, node

    def source(self, link_id: int) -> Output | Constant | None:
        """What a link brings: a node's output, a value, or nothing (its origin is muted or not connected)."""
        if link_id not in self.links:
            raise WorkflowError(f"link {link_id} is used but not in the file")
        link = self.links[link_id]
        if link.origin == GRAPH_INPUT:
            return self._from_above(link)
        if link.origin not in self.nodes:
            raise WorkflowError(f"link {link_id} comes from node {link.origin}, which is not in the file")
        return self._output(self.nodes[link.origin], link.origin_slot, link.type)

    def _output(self, node: dict, slot: int, wanted: str) -> Output | Constant | None:
        if node.get("mode", 0) == MUTED:
            return None
        if node.get("mode", 0) == BYPASSED:
            return self._input(node, self._bypass(node, slot, wanted))
        if node["type"] == "Reroute":
            return self._input(node, 0)
        if node["type"] == "PrimitiveNode":
            if not node.get("widgets_values"):
                raise WorkflowError(f"{self.name(node)}: it has no value")
            return Constant(node.get("proxied", {}).get("value", node["widgets_values"][0]))
        if node["type"] in self.graphs:
            inner = self.inside(node)
            ends = [x for x in inner.links.values() if (x.target, x.target_slot) == (GRAPH_OUTPUT, slot)]
            return inner._output(inner.nodes[ends[0].origin], ends[0].origin_slot, wanted) if ends else None
        return Output(self.path(node), slot)

    def _input(self, node: dict, slot: int | None) -> Output | Constant | None:
        link = None if slot is None else node["inputs"][slot].get("link")
        return None if link is None else self.source(link)

    def _bypass(self, node: dict, slot: int, wanted: str) -> int | None:
        """Which input a bypassed node hands on: that of the same index if its type fits, else the first that does."""
        inputs, given = node.get("inputs") or [], node["outputs"][slot]["type"]
        if wanted in ("*", ""):
            return slot if slot < len(inputs) else (0 if inputs else None)
        order = [slot, *range(len(inputs))] if slot < len(inputs) else range(len(inputs))
        for i in order:
            if _fits(inputs[i]["type"], given) and _fits(inputs[i]["type"], wanted):
                return i
        return None

    def _from_above(self, link: Link) -> Output | Constant | None:
        """What the subgraph node itself gets at one of its inputs."""
        assert self.above is not None and self.host is not None  # only a subgraph has links from its own inputs
        wanted = self.data["inputs"][link.origin_slot]["name"]
        slots = [slot for slot in self.host.get("inputs") or [] if slot["name"] == wanted]
        if not slots and not self._shows_widget(link.origin_slot):  # the page leaves widgets out that are not linked
            raise WorkflowError(f"{self.above.name(self.host)}: it has no input {wanted!r}")
        if slots and slots[0].get("link") is not None:
            return self.above.source(slots[0]["link"])
        value = self._host_values_by_input().get(wanted)
        return None if value is None else Constant(value)

    def _shows_widget(self, slot: int) -> bool:
        """Whether a subgraph's own input leads to an inner node's widget."""
        ends = [link for link in self.links.values() if (link.origin, link.origin_slot) == (GRAPH_INPUT, slot)]
        return any(self.nodes[link.target]["inputs"][link.target_slot].get("widget") for link in ends)

    def _host_values(self) -> tuple[list[Any], list[Any]]:
        """The subgraph node's proxy widgets and stored values; a null stands for the inner widget's own value."""
        assert self.host is not None and self.above is not None  # only called for the inside of a subgraph
        values = self.host.get("widgets_values") or []
        if not isinstance(values, list):
            raise WorkflowError(f"{self.above.name(self.host)}: its widget values are not a list")
        proxies = (self.host.get("properties") or {}).get("proxyWidgets")
        if proxies is None:  # newer pages store one value for each of the subgraph's inputs that is a widget
            proxies = [["-1", slot["name"]] for i, slot in enumerate(self.data["inputs"]) if self._shows_widget(i)]
        if len(values) > len(proxies):
            raise WorkflowError(f"{self.above.name(self.host)}: {len(values)} values for {len(proxies)} widgets")
        return proxies, values

    def _host_values_by_input(self) -> dict[str, Any]:
        proxies, values = self._host_values()
        return {proxy[1]: value for proxy, value in zip(proxies, values, strict=False) if str(proxy[0]) == "-1"}

    def _host_values_by_widget(self) -> Iterator[tuple[str, str, Any]]:
        """The stored values of widgets that belong to an inner node directly: its id, the widget, the value."""
        assert self.host is not None and self.above is not None  # only called for the inside of a subgraph
        for proxy, value in zip(*self._host_values(), strict=False):
            if str(proxy[0]) == "-1" or value is None:
                continue
            if str(proxy[0]) not in self.nodes:
                raise WorkflowError(f"{self.above.name(self.host)}: its widget {proxy[1]!r} has no inner node")
            yield str(proxy[0]), proxy[1], value


def _link(entry: Any) -> tuple[int, Link]:
    """A link from its array or its object form."""
    if isinstance(entry, dict):
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        entry = [entry[key] for key in keys]
    link_id, origin, origin_slot, target, target_slot, kind = entry[:6]
    return link_id, Link(str(origin), origin_slot, str(target), target_slot, str(kind))


def _fits(one: str, other: str) -> bool:
    """Whether two socket types may be connected; a type may list several with commas."""
    a, b = str(one).lower().split(","), str(other).lower().split(",")
    return "*" in (*a, *b) or bool(set(a) & set(b))


def _widget_values(name: str, node: dict, info: dict[str, Any]) -> dict[str, Any]:
    """The values that a node's file entry stores by position, by name; the class's defaults for those appended since.

    What a widget is follows from the class; sockets are skipped.
    """
    stored = node.get("widgets_values") or []
    if not isinstance(stored, list):
        raise WorkflowError(f"{name}: its widget values are not a list")
    # A row of sockets that grows has the input's name before a point.
    sockets = {slot["name"].partition(".")[0] for slot in node.get("inputs") or [] if not slot.get("widget")}
    values: dict[str, Any] = {}
    position = 0
    for key, spec in {**info["input"].get("required", {}), **info["input"].get("optional", {})}.items():
        kind = "COMBO" if isinstance(spec[0], list) else str(spec[0])
        options = spec[1] if len(spec) > 1 else {}
        if kind in UNSAVED_WIDGETS:
            values[key] = _escaped(UNSAVED_WIDGETS[kind])
        elif kind in VALUE_WIDGETS and not options.get("forceInput"):
            value = stored[position] if position < len(stored) else _default(name, key, spec)
            if options.get("dynamicPrompts") and PAGE_SYNTAX.search(str(value)):
                raise WorkflowError(f"{name}: {key!r} holds random choices or comments, which only the page resolves")
            values[key] = _escaped(value)
            position += 1 + _extra_widgets(kind, key, options)
        elif key not in sockets and (options.get("socketless") or kind.startswith("COMFY_")):
            raise WorkflowError(f"{name}: input {key!r} of type {kind} is a widget this conversion does not know")
    if len(stored) > position:
        raise WorkflowError(f"{name}: the file has {len(stored)} widget values, the server's node takes {position}")
    for key, value in node.get("proxied", {}).items():
        if key in values:
            values[key] = _escaped(value)
        elif key != "control_after_generate":
            raise WorkflowError(f"{name}: it has no widget {key!r} for its subgraph to show")
    return values


def _extra_widgets(kind: str, key: str, options: dict[str, Any]) -> int:
    """How many values of the page's own helpers follow a widget's value in a file."""
    uploads = any(options.get(f"{what}_upload") for what in ("image", "video", "audio", "file"))
    control = options.get("control_after_generate", kind == "INT" and key in SEEDS)
    # Beside a combo the page also stores the filter of its list of choices.
    controls = 0 if not control else (1 if kind == "INT" else 2)
    return controls + int(uploads)


def _default(name: str, key: str, spec: list) -> Any:
    options = spec[1] if len(spec) > 1 else {}
    if "default" in options:
        return options["default"]
    choices = spec[0] if isinstance(spec[0], list) else options.get("options")
    if choices:
        return choices[0]
    raise WorkflowError(f"{name}: the file has no value for {key!r}, which has no default")
