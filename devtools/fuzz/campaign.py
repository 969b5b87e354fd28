"""The prompts of a campaign, and what each must leave as it was."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil

from ..server.client import Prompt
from ..server.server import Server
from .graphs import STOCK, WIDGETS, Graph, around, nodes_of, odd, without_the_pack
from .outcome import Outcome, tried
from .values import wrong

SAMPLERS = ("euler", "dpmpp_2m", "ddim", "uni_pc", "dpmpp_sde", "euler_ancestral", "lcm", "heun", "euler_cfg_pp")
SCHEDULERS = ("normal", "karras", "simple", "beta", "sgm_uniform")
WORK = {"steps", "maps", "iterations"}  # more of it only takes longer
MUCH = 50
Usage = dict[str, float]  # prompts, MB, files, threads
LARGEST_SEED = 2**63 - 1  # above it KSampler itself fails with samplers that add noise, which count it on


@dataclass
class Report:
    """What a campaign found so far."""

    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[dict[str, Any]] = field(default_factory=list)
    canaries: int = 0
    usage: list[Usage] = field(default_factory=list)

    @property
    def prompts(self) -> int:
        return self.outcomes.total()

    def content(self) -> dict[str, Any]:
        return {
            "seed": self.seed, "prompts": self.prompts, "outcomes": dict(self.outcomes), "canaries": self.canaries,
            "usage": self.usage, "findings": self.findings,
        }  # fmt: skip

    def lines(self) -> list[str]:
        return [
            f"{self.prompts} prompts, seed {self.seed}, {self.canaries} canaries",
            *(f"  {count:6} {kind}" for kind, count in self.outcomes.most_common()),
            *map(of_usage, self.usage),
            *(f"{entry['kind']}: {entry['what']}: {entry['words'][:300]}" for entry in self.findings),
        ]


class Campaign:
    """Prompts with one wrong value each, with one odd value each, and random graphs, against a running server."""

    def __init__(self, server: Server, seed: int):
        self.server, self.client = server, server.client
        self.nodes = nodes_of(server.client)
        self.names = {name for our in self.nodes.ours for name, *_ in self.nodes.inputs(our)}
        self.random = random.Random(seed)
        self.report = Report(seed)
        self._canary: tuple[str, ...] | None = None
        self._plain: dict[tuple[str, str], Outcome] = {}

    def run(self, until: float, most: int | None = None) -> Report:
        """Prompts until a time (of time.monotonic) or until there were so many."""
        cases = [*self.wrong_values(), *self.odd_values()]
        self.random.shuffle(cases)
        self._look()
        for what, prompt, plain in _endless(cases, self.random_graphs()):
            if time.monotonic() > until or (most is not None and self.report.prompts >= most):
                break
            self.one(what, prompt, plain)
        self._look()
        return self.report

    def one(self, what: str, prompt: Prompt, plain: tuple[str, str] | None) -> Outcome:
        """One prompt, and the canary after it. plain: the odd value in it, which stock nodes may not take either."""
        outcome = tried(self.client, prompt, self.names)
        if outcome.kind == "no answer":
            raise ConnectionError(f"{what}: the server answers no more ({outcome.words})")
        if plain is not None and (outcome.raised or outcome.kind == "not finite"):
            stock = self._in_stock_nodes(*plain)
            if (
                stock is not None
                and stock.raised == outcome.raised
                and stock.kind in ("fails in the host", "not finite")
            ):
                outcome = Outcome("fails in the host", outcome.words)
            elif outcome.kind == "fails in the host":
                outcome = Outcome("fails where stock nodes do not", outcome.words)
        self.report.outcomes[outcome.kind] += 1
        if outcome.finding:
            self._found(what, prompt, outcome)
        bits = self._bits_of_a_canary()
        if self._canary is None:
            self._canary = bits
        elif bits != self._canary:
            self._found(what, prompt, Outcome("the next prompt has other bits", str(bits)))
        if self.report.prompts % 200 == 0:
            self._look()
        return outcome

    def _found(self, what: str, prompt: Prompt, outcome: Outcome) -> None:
        found = {"what": what, "kind": outcome.kind, "words": outcome.words, "prompt": prompt}
        self.report.findings.append(found)

    def _in_stock_nodes(self, kind: str, which: str) -> Outcome | None:
        if (kind, which) not in self._plain:
            prompt = without_the_pack(self.nodes, kind, which)
            if prompt is None:
                return None
            self._plain[kind, which] = tried(self.client, prompt, self.names)
        return self._plain[kind, which]

    def _bits_of_a_canary(self) -> tuple[str, ...]:
        self.report.canaries += 1
        graph = Graph(self.nodes)
        graph.nodes["nonce"] = {"class_type": "FuzzLATENT", "inputs": {"which": "good", "nonce": self.report.canaries}}
        concept = graph.add("SEGAConcept")
        model = graph.add("SEGAGuidance", {"concepts": [concept, 0]})
        sampler = graph.add("KSampler", {"model": [model, 0], "latent_image": ["nonce", 0]})
        graph.finish(sampler)
        return tried(self.client, graph.nodes, self.names).bits

    def _look(self) -> None:
        self.report.usage.append(usage(self.server, self.report.prompts))

    def wrong_values(self) -> Iterator[tuple[str, Prompt, None]]:
        """Every widget with every value that it should not have, and every socket with what is no link."""
        for name in self.nodes.ours:
            for inside, kind, options, _ in self.nodes.inputs(name):
                for value in wrong(kind, options):
                    if inside in WORK and isinstance(value, int | float) and MUCH < value <= options["max"] + 1:
                        continue
                    yield f"{name}.{inside} = {_short(value)}", around(self.nodes, name, {inside: value}), None

    def odd_values(self) -> Iterator[tuple[str, Prompt, tuple[str, str]]]:
        """Every input linked to every odd value of its type."""
        for name in self.nodes.ours:
            for inside, kind, _, _ in self.nodes.inputs(name):
                for which in self.nodes.odd(kind):
                    prompt = odd(self.nodes, name, inside, kind, which)
                    yield f"{name}.{inside} linked to {kind} {which!r}", prompt, (kind, which)

    def random_graphs(self) -> Iterator[tuple[str, Prompt, None]]:
        """Chains of the pack's nodes, settings anywhere in their ranges, among stock nodes."""
        number = 0
        while True:
            number += 1
            graph = Graph(self.nodes)
            for _ in range(self.random.randint(1, 3)):
                self._grow(graph)
            yield f"random graph {number}", graph.nodes, None

    def _grow(self, graph: Graph) -> None:
        name = self.random.choice(self.nodes.ours)
        given: dict[str, Any] = {}
        for inside, kind, options, required in self.nodes.inputs(name):
            if kind in WIDGETS:
                if self.random.random() < 0.7:
                    given[inside] = self._value(graph, inside, kind, options)
            elif required or self.random.random() < 0.5:
                given[inside] = self._link(graph, kind)
        graph.finish(graph.add(name, given))

    def _value(self, graph: Graph, inside: str, kind: str, options: dict[str, Any]) -> Any:
        if inside == "sampler_name":
            return self.random.choice(SAMPLERS)
        if inside == "scheduler":
            return self.random.choice(SCHEDULERS)
        if inside in WORK:
            return self.random.randint(1, 4)
        if kind in ("INT", "FLOAT") and "max" in options:
            low, high = options["min"], min(options["max"], LARGEST_SEED)
            value = self.random.choice((low, high, options["default"], self.random.uniform(low, high)))
            return int(value) if kind == "INT" else value
        if kind == "BOOLEAN":
            return self.random.random() < 0.5
        if kind == "COMBO" and options["options"]:
            return self.random.choice(options["options"])
        return graph.value(inside, kind, options)

    def _link(self, graph: Graph, kind: str) -> list[Any]:
        """To a node of the graph that gives the type, or to a new good one."""
        there = [
            [key, slot]
            for key, entry in graph.nodes.items()
            if entry["class_type"] in self.nodes.info
            for slot, output in enumerate(self.nodes.outputs(entry["class_type"]))
            if output == kind
        ]
        if there and self.random.random() < 0.6:
            return self.random.choice(there)
        if kind in STOCK or self.nodes.odd(kind):
            return graph.source(kind)
        return [graph.add(self.nodes.giving(kind)[0]), self.nodes.giving(kind)[1]]


def _endless(cases: list[Any], graphs: Iterator[Any]) -> Iterator[Any]:
    """The cases with a random graph after every second one, then random graphs alone."""
    for number, case in enumerate(cases):
        yield case
        if number % 2:
            yield next(graphs)
    yield from graphs


def usage(server: Server, prompts: int) -> Usage:
    """What the server's process holds after so many prompts."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.pid and (*connection.laddr, 0)[1] == server.port:
            process = psutil.Process(connection.pid)
            memory = round(process.memory_info().rss / 1e6, 1)
            return {"prompts": prompts, "MB": memory, "files": process.num_fds(), "threads": process.num_threads()}
    raise ConnectionError(f"nothing listens on port {server.port}")


def counted(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in outcomes.most_common())


def of_usage(look: Usage) -> str:
    return "  {prompts:6.0f} prompts: {MB:.0f} MB, {files:.0f} files, {threads:.0f} threads".format(**look)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:40]}... ({len(text)} letters)"
