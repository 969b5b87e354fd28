"""`dev.py fuzz --faults`: a fault at every point that a prompt passes, and what is left of it afterwards."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..host import has_accelerator
from ..server.client import Client, Prompt, PromptError, PromptInterrupted
from ..server.server import PACK, Server
from .campaign import counted
from .graphs import WIDGETS, Graph, Nodes, nodes_of

KINDS = ("cancel", "interrupt", "error", "memory")
# Points of which every passing is tried with every kind; of the others, passed by the hundred, the first, middle and
# last, with one kind after the other.
EACH = ("evaluation", "progress")
STEPS = 3  # so that there is a first, a middle and a last one
LOADERS = ("CheckpointLoaderSimple", "FuzzEditModel")
# For caches, memory and previews: with each of them the bits must be those of none.
FLAGS = (
    ("--cache-none",), ("--cache-lru", "3"), ("--cache-classic",), ("--disable-smart-memory",),
    ("--preview-method", "latent2rgb"), ("--disable-mmap",),
    *((("--lowvram",), ("--novram",)) if has_accelerator() else ()),  # ComfyUI does not take them on a CPU
)  # fmt: skip
COUNTED = ("live", "threads", "files")  # of the state

Fault = tuple[str, int, str]  # point, which time, kind
Result = tuple[str, dict[str, str]]  # how a prompt ended, and the bits of what was looked at


@dataclass(frozen=True)
class Scene:
    """A prompt and how it is when nothing fails: the bits of its results, the server's state after it with its models
    loaded and without. counts: how often it passes each point when all of it runs; nodes: which ran there."""

    name: str
    prompt: Prompt
    bits: dict[str, str]
    loaded: dict[str, str]
    state: dict[str, str]
    counts: dict[str, int]
    nodes: dict[str, list[str]]


@dataclass
class FaultReport:
    """What the matrix found so far. ended: by what a fault led to; flags: in how many scenes each changed no bits."""

    faults: int = 0
    scenes: int = 0
    points: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    findings: list[dict[str, Any]] = field(default_factory=list)

    def content(self) -> dict[str, Any]:
        return {**vars(self), "points": dict(self.points), "ended": dict(self.ended), "flags": dict(self.flags)}

    def lines(self) -> list[str]:
        return [
            f"{self.faults} faults in {self.scenes} scenes: {counted(self.ended)}",
            f"  at {counted(self.points)}",
            f"  scenes with the same bits: {counted(self.flags)}",
            *(f"{entry['scene']}, {entry['fault']}: {entry['kind']}: {entry['what'][:5]}" for entry in self.findings),
        ]


class Faults:
    """The matrix of every node and fault, against a running server with the pack of this folder's `host`."""

    def __init__(self, server: Server, seed: int, pack: str = PACK):
        self.client: Client = server.client
        self.nodes = nodes_of(server.client, pack)
        self.random, self.pack = random.Random(seed), pack
        self.report = FaultReport()
        self._expected: dict[str, Result] = {}

    def run(self, until: float, most: int | None = None) -> FaultReport:
        """Every scene with all its faults; most: of each, by chance, and no scene begins after `until`."""
        scenes = list(self.prompts())
        self.random.shuffle(scenes)
        for name, prompt in scenes:
            if time.monotonic() > until:
                break
            scene = self.scene(name, prompt)
            if scene is None:
                continue
            faults = list(self.faults(scene))
            if most is not None and len(faults) > most:
                faults = self.random.sample(faults, most)
            for fault in faults:
                self.one(scene, fault)
            self.report.scenes += 1
        self._expected = self.results()
        return self.report

    def under_flags(self, base: Path) -> None:
        """After `run`: the same scenes on servers with start flags, in the base directory that its server had."""
        for flags in FLAGS:
            with Server(base, flags=flags) as server:
                found = Faults(server, 0, self.pack).results()
            for name, result in self._expected.items():
                under = found.get(name, ("not there", {}))
                self.report.flags[" ".join(flags)] += under == result
                if under != result:
                    self.report.findings.append(
                        {"scene": name, "fault": flags, "kind": "other bits", "what": [under[0]]}
                    )

    def results(self) -> dict[str, Result]:
        """Of every scene."""
        return {name: self.result(prompt) for name, prompt in self.prompts()}

    def prompts(self) -> Iterator[tuple[str, Prompt]]:
        """For each of the pack's nodes: alone among stock nodes; then with all its sockets linked, as far as it takes
        them together, on a model that other packs patch before and after it."""
        for name in self.nodes.ours:
            yield name, self._around(name, {})
            linked: list[str] = []
            for inside, kind, _, required in self.nodes.inputs(name):
                extra = kind not in WIDGETS and not required and self.nodes.can_be_linked(kind)
                if extra and self._runs(name, [*linked, inside]):
                    linked.append(inside)
            yield f"{name} with {', '.join(linked) or 'others'}", among_others(self._around(name, linked), self.nodes)

    def _around(self, name: str, linked: Any) -> Prompt:
        graph = Graph(self.nodes, {"steps": STEPS})
        kinds = {inside: kind for inside, kind, _, _ in self.nodes.inputs(name)}
        graph.finish(graph.add(name, {inside: graph.source(kinds[inside]) for inside in linked}))
        return graph.nodes

    def _runs(self, name: str, linked: list[str]) -> bool:
        return self.result(self._around(name, linked))[0] == "ran"

    def scene(self, name: str, prompt: Prompt) -> Scene | None:
        """How a prompt is without a fault; None, and a finding, where that is not the same each time."""
        self.result(prompt)  # a first run makes what later ones keep: models, libraries, threads
        self._state()
        self._set(None, self._made(prompt))
        self.result(prompt)
        points = self._points()
        runs = []
        for _ in range(2):
            self._set(None, self._anew(prompt, points["nodes"].get("evaluation", [])))
            runs.append((*self.result(prompt), self._state(unloaded=False), self._state()))
        (how, bits, loaded, state), again = runs
        if how != "ran":
            self._found(name, None, prompt, "it does not run", [how])
            return None
        if again != runs[0]:
            wrong = different(loaded, again[2]) + different(state, again[3])
            self._found(name, None, prompt, "it is not the same twice", wrong)
            return None
        return Scene(name, prompt, bits, loaded, state, points["counts"], points["nodes"])

    def faults(self, scene: Scene) -> Iterator[Fault]:
        """All that are worth trying."""
        kinds = itertools.cycle(KINDS)
        for point, last in scene.counts.items():
            for number in range(1, last + 1) if point in EACH else sorted({1, (last + 1) // 2, last}):
                for kind in KINDS if point in EACH else (next(kinds),):
                    yield point, number, kind

    def one(self, scene: Scene, fault: Fault) -> None:
        """Run a scene into a fault, compare what is left, run it well, and compare again."""
        point = fault[0]
        self._set(fault, self._anew(scene.prompt, scene.nodes[point]))
        how, bits = self.result(scene.prompt)
        came = self._points()["came"]
        self.report.faults += came
        self.report.points[point] += came
        self.report.ended[how.partition(":")[0] if came else "the fault was not reached"] += 1
        if how == "ran" and bits != scene.bits:
            self._found(scene.name, fault, scene.prompt, "it ran on to other bits", [])
        self._compare(scene, fault, f"after it {how}", self._state(unloaded=False))
        self._set(None, [])
        how, bits = self.result(scene.prompt)
        if (how, bits) != ("ran", scene.bits):
            self._found(scene.name, fault, scene.prompt, f"the next run has other bits ({how})", [])
        wrong = different(scene.state, self._state())
        if wrong:
            self._found(scene.name, fault, scene.prompt, "after the next run", wrong)

    def _compare(self, scene: Scene, fault: Fault, when: str, left: dict[str, str]) -> None:
        """What is there must be as it was; there may be less, since no output of the failed node is kept."""
        wrong = [
            f"{key}: {scene.loaded.get(key, 0)}, then {text}"
            for key, text in left.items()
            if (int(text) > int(scene.loaded.get(key, 0)) if key.startswith(COUNTED) else text != scene.loaded.get(key))
        ]
        if wrong:
            self._found(scene.name, fault, scene.prompt, when, wrong)

    def _made(self, prompt: Prompt) -> list[str]:
        """All nodes but those that load models."""
        return [key for key, entry in prompt.items() if entry["class_type"] not in LOADERS]

    def _anew(self, prompt: Prompt, nodes: list[str]) -> list[str]:
        """These nodes, and all that comes after them."""
        found = {*nodes} & {*self._made(prompt)}
        links = {
            name: [v[0] for v in entry["inputs"].values() if isinstance(v, list)] for name, entry in prompt.items()
        }
        while more := {name for name, before in links.items() if name not in found and found.intersection(before)}:
            found |= more
        return sorted(found)

    def result(self, prompt: Prompt) -> Result:
        """Run a prompt."""
        return ended(self.client, self.client.queue(prompt))

    def _found(self, scene: str, fault: Fault | None, prompt: Prompt, kind: str, what: list[str]) -> None:
        found = {"scene": scene, "fault": fault, "kind": kind, "what": what, "prompt": prompt}
        self.report.findings.append(found)

    def _set(self, fault: Fault | None, anew: list[str]) -> None:
        self.client.json("/fuzz/fault", {"fault": fault, "forget": anew})

    def _points(self) -> dict[str, Any]:
        return self.client.json("/fuzz/points")

    def _state(self, unloaded: bool = True) -> dict[str, str]:
        return self.client.json(f"/fuzz/state?pack={self.pack}{'&unloaded' if unloaded else ''}")


def ended(client: Client, number: str) -> Result:
    """Wait for a queued prompt, and have the server forget it."""
    try:
        outputs = client.wait(number)["outputs"]
    except PromptInterrupted:
        return "interrupted", {}
    except PromptError as problem:
        return f"failed: {problem}", {}
    finally:
        client.forget(number)
    return "ran", {node: out["fuzz"][0]["bits"] for node, out in outputs.items() if "fuzz" in out}


def among_others(prompt: Prompt, nodes: Nodes) -> Prompt:
    """The prompt with other packs' patches on the checkpoint's MODEL, and on those that the pack's nodes give."""
    result: Prompt = {key: {**entry, "inputs": dict(entry["inputs"])} for key, entry in prompt.items()}
    for key, entry in prompt.items():
        for inside, value in entry["inputs"].items():
            if isinstance(value, list) and nodes.outputs(prompt[value[0]]["class_type"])[value[1]] == "MODEL":
                where = "after" if prompt[value[0]]["class_type"] in nodes.ours else "before"
                name = f"{where} {value[0]} {value[1]}"
                result[name] = {"class_type": "FuzzModel", "inputs": {"model": value, "where": where}}
                result[key]["inputs"][inside] = [name, 0]
    return result


def different(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Names of what is not the same, with both texts."""
    return [
        f"{key}: {before.get(key, 'not there')}, then {after.get(key, 'not there')}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
