"""`python -m benchmarks [--name NAME] [--json FILE] [--out DIR] [--quick]`: the figures of docs/performance.md."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from devtools.host import load_pack, prepare_comfyui

from . import NAMES


def module_of(name: str) -> ModuleType:
    """The benchmark's module: `rows(quick)` measures, `table(rows)` writes Markdown, and `plot(rows, folder)`, where
    there is one, a picture. ComfyUI must be prepared."""
    return importlib.import_module(f"{__package__}.{name}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench")
    parser.add_argument("--name", choices=NAMES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    prepare_comfyui()
    from comfy.cli_args import args

    # What the peers use; on a CPU ComfyUI's own choice takes up to twice as long.
    args.use_pytorch_cross_attention = True
    load_pack()
    from . import machine

    machine.prepare()
    names = [options.name] if options.name else list(NAMES)
    command = " ".join(["python dev.py bench", *names, *(["--quick"] if options.quick else [])])
    result: dict[str, Any] = {**machine.description(), "command": command, "rows": []}
    sys.stdout.write(f"{result['date']}, {result['device']}, torch {result['torch']}, ComfyUI {result['comfyui']}\n")
    for name in names:
        module = module_of(name)
        rows = module.rows(options.quick)
        sys.stdout.write(f"\n{module.table(rows)}\n")
        if options.out is not None and hasattr(module, "plot"):
            options.out.mkdir(parents=True, exist_ok=True)
            module.plot(rows, options.out)
        result["rows"] += [{"benchmark": name, **row} for row in rows]
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
