"""`dev.py fuzz --soak`: the workflow files over and over, from two clients, interrupted and deleted at random."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from ..demo.demo import place
from ..demo.scenes import SCENES, SIZE, override, workflow_file
from ..server.client import Prompt
from ..server.server import CHECKPOINT, Server
from ..server.workflows import load, to_prompt
from .campaign import Usage, counted, of_usage, usage
from .faults import ended

CLIENTS = ("one", "two")
SEEDS = (1, 2)
PROMPTS = 1000
FEWER = {"steps": 16, "maps": 2}  # of what only takes longer
LOOK = 50  # prompts between two looks at the server
WARM = 0.3  # of the prompts: what is loaded and imported then stays
GROWTH = 0.01
CANCELLED, DELETED = 0.2, 0.1  # shares of the prompts


@dataclass
class SoakReport:
    """ended: of the prompts; the same workflow and seed must give the same bits whenever it runs to its end."""

    seed: int
    ended: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    usage: list[Usage] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def prompts(self) -> int:
        return self.ended.total()

    @property
    def warm(self) -> list[Usage]:
        return [look for look in self.usage if look["prompts"] >= WARM * self.prompts]

    @property
    def growth(self) -> float:
        """Of the server's memory since it was warm, as a share."""
        return self.warm[-1]["MB"] / self.warm[0]["MB"] - 1 if self.warm else 0.0

    def content(self) -> dict[str, Any]:
        return {**vars(self), "ended": dict(self.ended), "prompts": self.prompts, "growth": self.growth}

    def lines(self) -> list[str]:
        return [
            f"{self.prompts} prompts, seed {self.seed}: {counted(self.ended)}; {self.compared} with the bits of the "
            f"first time; memory since it was warm: {100 * self.growth:+.2f} %",
            *map(of_usage, self.usage),
            *(f"{entry['what']}: {entry['words']}" for entry in self.findings),
        ]


class Soak:
    """A long run against a server whose cache holds one prompt, as `--cache-classic` has it."""

    def __init__(self, server: Server, seed: int):
        self.server, self.client = server, server.client
        self.random = random.Random(seed)
        self.report = SoakReport(seed)
        self._bits: dict[tuple[str, int], Any] = {}

    def run(self, until: float, most: int | None = None) -> SoakReport:
        """That many prompts (1000), or as many as there are until a time (of time.monotonic)."""
        prompts = self.prompts()
        with listening(self.server.url):
            self._look()
            while self.report.prompts < (most or PROMPTS) and time.monotonic() < until:
                name, seed = self.random.choice([*prompts])
                self.one((name, seed), prompts)
                if self.report.prompts % LOOK == 0:
                    self._look()
        self._look()
        if self.report.growth > GROWTH:
            self._found("memory", f"grew by {100 * self.report.growth:.1f} %")
        for what in ("files", "threads"):  # they come and go by one or two
            warm = [look[what] for look in self.report.warm]
            first, last = max(warm[: len(warm) // 2], default=warm[0]), min(warm[len(warm) // 2 :])
            if last > first:
                self._found(what, f"at most {first:.0f}, then at least {last:.0f}")
        return self.report

    def prompts(self) -> dict[tuple[str, int], Prompt]:
        """By workflow and seed, on the demo's checkpoint."""
        info, found = self.client.object_info(), {}
        for name, scene in SCENES.items():
            workflow = load(workflow_file(name))
            prompt = to_prompt(workflow, info)
            for seed in SEEDS:
                loaded = None if scene.portrait is None else place(self.server.base, f"{name}{seed}.png", scene, seed)
                found[name, seed] = looked_at(override(workflow, prompt, CHECKPOINT, SIZE, scene, seed, loaded))
        return found

    def one(self, which: tuple[str, int], prompts: dict[tuple[str, int], Prompt]) -> None:
        """A prompt of one client while another's waits behind it; interrupted, or taken out of the queue, at random."""
        one, two = self.random.sample(CLIENTS, 2)
        chance = self.random.random()
        first = self.client.queue(prompts[which], one)
        if chance < DELETED:
            behind = self.client.queue(prompts[self.random.choice([*prompts])], two)
            self.client.delete(behind)
            self.report.ended["deleted"] += 1
        elif chance < DELETED + CANCELLED:
            time.sleep(self.random.random())
            self.client.interrupt()
        how, bits = ended(self.client, first)
        self.report.ended[how.partition(":")[0]] += 1
        if how == "ran":
            self.report.compared += which in self._bits
            if self._bits.setdefault(which, bits) != bits:
                self._found(which, "other bits than the first time")
        elif how != "interrupted":
            self._found(which, how)

    def _found(self, what: Any, words: str) -> None:
        self.report.findings.append({"what": str(what), "words": words, "prompts": self.report.prompts})

    def _look(self) -> None:
        self.report.usage.append(usage(self.server, self.report.prompts))


def looked_at(prompt: Prompt) -> Prompt:
    """The prompt with less work, and a look at what its output nodes are given."""
    result: Prompt = {key: {**entry, "inputs": {**entry["inputs"]}} for key, entry in prompt.items()}
    for key, entry in prompt.items():
        for name, value in entry["inputs"].items():
            if isinstance(value, int) and name in FEWER:
                result[key]["inputs"][name] = min(value, FEWER[name])
        if entry["class_type"] in ("SaveImage", "PreviewImage", "LabelledStrip", "ImageCompare"):
            for name, value in entry["inputs"].items():
                if isinstance(value, list):
                    result[f"look {key} {name}"] = {"class_type": "FuzzCheck", "inputs": {"value": value}}
    return result


@contextlib.contextmanager
def listening(url: str) -> Iterator[None]:
    """The clients' open pages, so to say: each hears all that the server tells it."""
    loop = asyncio.new_event_loop()

    async def listen(name: str) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/ws?clientId={name}") as page:
            async for _ in page:
                continue

    async def all_pages() -> None:
        await asyncio.gather(*map(listen, CLIENTS))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(pages)

    pages = loop.create_task(all_pages())
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(pages.cancel)
        thread.join()
        loop.close()
