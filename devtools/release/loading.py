"""`python -m devtools.release.loading FOLDER`, in the environment's Python: loads a pack as ComfyUI does, after
everything that ComfyUI imports by itself, and prints what that took and brought, as JSON."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from ..host import prepare_comfyui


def load(folder: Path) -> dict[str, Any]:
    """Seconds of the host's own start and of the pack's, on the clock and of the processor; the nodes that came; the
    modules that came with them and are not the pack's own."""
    started = time.perf_counter()
    prepare_comfyui(cpu=True)
    import execution  # noqa: F401
    import server

    nodes: Any = importlib.import_module("nodes")  # ComfyUI's own; a type checker takes it for this repository's folder
    loop = asyncio.new_event_loop()
    server.PromptServer(loop)  # some of the host's nodes register themselves with it
    loop.run_until_complete(nodes.init_builtin_extra_nodes())
    host = time.perf_counter() - started
    known, offered = set(sys.modules), set(nodes.NODE_CLASS_MAPPINGS)
    clock, processor = time.perf_counter(), time.process_time()
    loaded = loop.run_until_complete(nodes.load_custom_node(str(folder), module_parent="custom_nodes"))
    seconds, processor = time.perf_counter() - clock, time.process_time() - processor
    own = str(folder).replace(".", "_x_")  # the name that the host gives a pack's module
    foreign = [name for name in set(sys.modules) - known if name != own and not name.startswith(f"{own}.")]
    return {
        "loaded": loaded,
        "seconds": seconds,
        "processor_seconds": processor,
        "host_seconds": host,
        "nodes": sorted(set(nodes.NODE_CLASS_MAPPINGS) - offered),
        "modules": sorted(foreign),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="devtools.release.loading")
    parser.add_argument("folder", type=Path)
    sys.stdout.write(json.dumps(load(parser.parse_args().folder.resolve())) + "\n")


if __name__ == "__main__":
    main()
