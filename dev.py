"""One door for developers: `python dev.py COMMAND`; see `--help`.

Runs under any Python 3.10-3.13 with the standard library alone; builds what it needs in the user's cache folder.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a word until `main` listens

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from devtools.environment import Environment, SetupError, environment, say  # noqa: E402
from devtools.installed import check_packages, named  # noqa: E402
from devtools.paths import CALLED_FROM, reason  # noqa: E402
from devtools.processes import INTERRUPTED, run  # noqa: E402

ENV = "env"  # answered here, whatever the environment's Python is like
LOCK = "lock"  # by this Python: an environment is built from what it writes
# By name: what each command does, and the module that does it, which gets all further arguments.
COMMANDS = {
    "demo": ("the workflow files on the demo checkpoint: strips and a report", "devtools.demo.demo"),
    "gallery": ("the same strips on a checkpoint of your own; stops and resumes", "devtools.gallery.gallery"),
    "serve": ("ComfyUI with its page, the pack and the demo models", "devtools.demo.serve"),
    "test": ("the suite; --fast, --compat; all other arguments are pytest's", "devtools.test"),
    "screenshots": ("each workflow in the page after a run, as a picture", "devtools.page.screenshots"),
    ENV: ("where everything is; --json", ""),
    "train-demo": ("train the demo domain; stops and resumes at any moment", "devtools.demo.train"),
    "eval": ("the figures of docs/evaluation.md", "devtools.figures.evaluate"),
    "bench": ("the figures of docs/performance.md", "benchmarks"),
    "fuzz": ("wrong, odd and random input for every node, through a real server", "devtools.fuzz.fuzz"),
    LOCK: ("the versions and hashes that the environment is built from, anew", "devtools.release.lock"),
    "pictures": ("the pictures of settings in the help pages and the README", "devtools.pictures.pictures"),
}
# What a command needs of the developers' tools in a Python that was not set up here.
TOOLS = {"test": ("pytest", "pytest-timeout", "hypothesis"), "screenshots": ("playwright",),
         "eval": ("matplotlib",), "bench": ("matplotlib",)}  # fmt: skip


def run_inside(env: Environment, module: str, arguments: list[str]) -> int:
    """Run a module with the environment's Python in the repository's root."""
    variables = dict(os.environ, COMFYUI_PATH=str(env.comfyui), COMFYUI_PYTHON=str(env.python), PYTHONUTF8="1")
    variables["SEMANTIC_STEERING_BASE"] = str(env.base_directory)
    try:
        variables[CALLED_FROM] = os.getcwd()
    except FileNotFoundError:
        raise SetupError("the folder you are in has been removed: change to another") from None
    if env.oracle is not None:
        variables["SEMANTIC_STEERING_ORACLE"] = str(env.oracle)
    return run([str(env.python), "-m", "devtools.command", module, *arguments], ROOT, variables)


def show_environment(env: Environment, arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"dev.py {ENV}")
    parser.add_argument("--json", action="store_true")
    values = env.public()
    as_json = parser.parse_args(arguments).json
    text = json.dumps(values) if as_json else "\n".join(f"{name}: {value}" for name, value in values.items())
    sys.stdout.write(text + "\n")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py", usage="dev.py COMMAND [ARGUMENT ...]", description="One door for developers.",
        epilog="\n".join(f"  {name:12} {what}" for name, (what, _) in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="one of those below, with its own --help")
    command = parser.parse_args(sys.argv[1:2]).command  # all that follows is the command's own
    arguments = sys.argv[2:]
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if command == LOCK:
            return run([sys.executable, "-m", "devtools.command", COMMANDS[LOCK][1], *arguments], ROOT, os.environ)
        existing = named()
        found = existing or environment()
        if command == ENV:
            return show_environment(found, arguments)
        if existing is not None:
            check_packages(existing, TOOLS.get(command, ()))
        return run_inside(found, COMMANDS[command][1], arguments)
    except SetupError as problem:
        say(f"set-up stopped: {problem}")
        return 1
    except OSError as problem:
        say(f"set-up stopped: {reason(problem)}")
        return 1
    except KeyboardInterrupt:
        say("set-up interrupted; run the command again to go on")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
