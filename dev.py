"""One door for developers: `python dev.py COMMAND`; see `--help`.

Runs under any Python 3.10-3.13 with the standard library alone; builds what it needs in the user's cache folder.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from devtools.environment import Environment, SetupError, environment, say  # noqa: E402
from devtools.paths import CALLED_FROM  # noqa: E402

ENV = "env"  # the one command that is answered here, whatever the environment's Python is like
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
    "fuzz": ("wrong input, failures and long runs through a real server", "devtools.fuzz.fuzz"),
    "pictures": ("the pictures of settings in the help pages and the README", "devtools.pictures.pictures"),
}


def run_inside(env: Environment, module: str, arguments: list[str]) -> int:
    """Run a module with the environment's Python in the repository's root. Ctrl-C reaches it and it ends first; a
    request to terminate is handed on, so that no server is left behind."""
    variables = dict(os.environ, COMFYUI_PATH=str(env.comfyui), COMFYUI_PYTHON=str(env.python), PYTHONUTF8="1")
    variables["SEMANTIC_STEERING_BASE"] = str(env.base_directory)
    variables[CALLED_FROM] = os.getcwd()
    if env.oracle is not None:
        variables["SEMANTIC_STEERING_ORACLE"] = str(env.oracle)
    process = subprocess.Popen([str(env.python), "-m", module, *arguments], cwd=ROOT, env=variables)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:
        return process.wait()


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
        found = environment()
    except SetupError as problem:
        say(f"set-up stopped: {problem}")
        return 1
    except KeyboardInterrupt:
        say("set-up interrupted; run the command again to go on")
        return 130
    if command == ENV:
        return show_environment(found, arguments)
    return run_inside(found, COMMANDS[command][1], arguments)


if __name__ == "__main__":
    sys.exit(main())
