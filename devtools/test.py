"""`dev.py test [--fast | --compat] [--host PATH] [--frontend VERSION] [pytest arguments]`: the suite. Lint and type
checks are tests like all others.

--fast runs what is worth running again and again: the mathematics and the nodes, without the tests marked slow.
--compat runs the tests that make docs/compatibility.md instead, whole models among them, and writes the page; with
--host or --frontend it runs the suite's parts there, and writes what passed into the page and the README.
--host runs on another ComfyUI tree, --frontend with another version of its page; both by the environment's Python.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys

from .environment import SetupError, say
from .host import ROOT
from .paths import given
from .processes import run
from .tree import variables as variables_of

MOST_WORKERS = 4  # each of them loads torch and ComfyUI
FAST = ["tests/core", "tests/nodes", "-m", "not slow"]
LAST_LINES = ["-p", "devtools.summary", "--durations=10"]


def parallel(arguments: list[str], processors: int) -> list[str]:
    """pytest's arguments for several processes: for the whole suite, where pytest-xdist is installed (an environment of
    one's own may lack it). What shares much stays together (scheduling.py); files in their order, long ones first."""
    named = any((ROOT / argument.partition("::")[0]).exists() for argument in arguments if not argument.startswith("-"))
    told = any(argument.startswith(("-n", "--numprocesses", "--pdb", "--co")) for argument in arguments)
    if named or told or processors < 2 or importlib.util.find_spec("xdist") is None:
        return []
    workers = str(min(processors, MOST_WORKERS))
    return ["-n", workers, "-p", "devtools.scheduling", "--dist", "loadfile", "--no-loadscope-reorder"]


def main() -> int:
    # without abbreviations, so that pytest's --co is not taken for --compat
    parser = argparse.ArgumentParser(prog="dev.py test", add_help=False, allow_abbrev=False)
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--fast", action="store_true")
    part.add_argument("--compat", action="store_true")
    parser.add_argument("--host", type=given)
    parser.add_argument("--frontend")
    options, rest = parser.parse_known_args()
    try:
        variables = {**os.environ, **variables_of(options.host, options.frontend)}
    except SetupError as problem:
        say(f"no test was run: {problem}")
        return 1
    if options.compat:
        elsewhere = options.host is not None or options.frontend is not None
        command = [f"devtools.release.{'hosts' if elsewhere else 'compatibility'}", *rest]
    else:
        processors = os.cpu_count() or 1
        workers = parallel(rest, processors)
        command = ["pytest", *LAST_LINES, *workers, *(FAST if options.fast else []), *rest]
        if workers:  # or each process would take all processors for itself
            variables.setdefault("OMP_NUM_THREADS", str(max(1, processors // int(workers[1]))))
    return run([sys.executable, "-m", "devtools.command", *command], ROOT, variables)


if __name__ == "__main__":
    sys.exit(main())
