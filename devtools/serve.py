"""`python -m devtools.serve`: ComfyUI with its page, the pack and the demo's models, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys

from .environment import say
from .server import CHECKPOINT, Server, ServerError, base_directory, lay_out


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py serve")
    parser.add_argument("--port", type=int, default=8188)
    port = parser.parse_args().port
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave the with block, so that the server ends too
    base = lay_out(base_directory())
    if not (base / "models" / "checkpoints" / CHECKPOINT).exists():
        say("the demo checkpoint is missing (`python dev.py train-demo` makes it); the page works without it")
    say("starting ComfyUI")
    try:
        with Server(base, port) as server:
            sys.stdout.write(f"{server.url}\n")
            sys.stdout.flush()
            say("Ctrl-C stops it")
            return server.wait()
    except KeyboardInterrupt:
        say("stopped")
        return 0
    except ServerError as problem:
        say(str(problem))
        return 1


if __name__ == "__main__":
    sys.exit(main())
