"""Processes that save vectors into one folder, run as a program: `writers.py PLAN`, a JSON object.

{"output": FOLDER, "race": N, "links": BOOL}: two processes save N files each, at the same time.
{"output": FOLDER, "kill": N, "seed": S}: N times a process saves one file after the other, slowly, and is killed.
Every file of a process has its own number, as the seed and in each value of its vectors.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIDE = 64  # a file of 0.4 MB
PREFIX = "edits/a"


def saver(output: str):
    """Saves vectors that are all one number, under a name that the host chooses."""
    sys.path.insert(0, str(ROOT))
    from devtools.host import load_pack, prepare_comfyui

    sys.path.remove(str(ROOT))  # the pack's `nodes` would hide ComfyUI's
    prepare_comfyui(cpu=True)
    load_pack()
    import folder_paths
    import torch
    from semantic_steering.nodes.host.run.identity import ModelIdentity
    from semantic_steering.nodes.host.sega import vector_files
    from semantic_steering.nodes.host.sega.vectors import ConceptVectors

    torch.set_num_threads(1)  # a fork has none of its parent's threads
    folder_paths.set_output_directory(output)
    model = ModelIdentity("SD15", "EPS", 14.6, None)

    def save(number: int) -> str:
        gamma = torch.full((6, 1, 4, SIDE, SIDE), float(number))
        return vector_files.save(ConceptVectors(gamma, (6.0, 5.0, 4.0, 3.0, 2.0, 1.0), model, (), number), PREFIX, {})

    return save


def forked(work) -> int:
    """The process id of a copy of this one that does the work and ends."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
    return child


def race(save, each: int) -> bool:
    """Whether both processes saved all of theirs: the numbers below `each`, and from 5000 on."""
    begin = time.time() + 0.5

    def work(first: int):
        time.sleep(max(0.0, begin - time.time()))
        for number in range(first, first + each):
            save(number)

    children = [forked(lambda first=first: work(first)) for first in (1, 5000)]
    return all(os.waitpid(child, 0)[1] == 0 for child in children)


class Slow:
    """A file that is written in pieces, with time between them for a kill."""

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content: bytes) -> None:
        for start in range(0, len(content), 1 << 14):
            self.file.write(content[start : start + (1 << 14)])
            self.file.flush()
            time.sleep(0.0005)


def kill(save, times: int, seed: int) -> bool:
    """Whether each of the processes was still saving when it was killed."""
    opened, chance = Path.open, random.Random(seed)
    Path.open = lambda self, mode="r", *rest: (  # pyright: ignore[reportAttributeAccessIssue]
        Slow(opened(self, mode, *rest)) if "w" in mode else opened(self, mode, *rest)
    )
    for place in ("link", "unlink", "replace", "rename", "fsync"):
        setattr(os, place, paused(getattr(os, place)))

    def work(first: int):
        for number in itertools.count(first):
            save(number)

    found = []
    for i in range(times):
        child = forked(lambda first=10 * i + 1: work(first))
        time.sleep(chance.uniform(0.005, 0.12))
        os.kill(child, signal.SIGKILL)
        found.append(os.waitpid(child, 0)[1] == signal.SIGKILL)
    return all(found)


def paused(call):
    def slowly(*arguments, **options):
        time.sleep(0.002)
        result = call(*arguments, **options)
        time.sleep(0.002)
        return result

    return slowly


def no_links(*_) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))  # what exFAT says


if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    if not plan.get("links", True):
        os.link = no_links
    save = saver(plan["output"])
    sys.exit(0 if (race(save, plan["race"]) if "race" in plan else kill(save, plan["kill"], plan["seed"])) else 1)
