"""`dev.py bench [NAME]`: the figures of docs/performance.md."""

from __future__ import annotations

import argparse
import json
import sys
from types import ModuleType
from typing import Any

from devtools.host import load_pack, prepare_comfyui
from devtools.paths import file_to_write, folder_to_fill, given, reason, write

from . import NAMES, page


def module_of(name: str) -> ModuleType:
    """The benchmark's module: `rows(quick)` measures, `table(rows)` writes Markdown, and `plot(rows, folder)`, where
    there is one, a picture. ComfyUI must be prepared."""
    from . import cost, diffedit, edit_term, ledits, memory, sega, sliders, training

    return {
        "sega": sega, "diffedit": diffedit, "ledits": ledits, "edit_term": edit_term, "memory": memory, "cost": cost,
        "sliders": sliders, "training": training,
    }[name]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench")
    parser.add_argument("name", nargs="?", choices=NAMES, help="only this benchmark [all]")
    parser.add_argument("--json", type=file_to_write, metavar="FILE", help="also write them to a file")
    parser.add_argument("--out", type=folder_to_fill, metavar="DIR", help="folder for the plot of `cost`")
    parser.add_argument("--quick", action="store_true", help="a tiny model once, to see that it runs")
    parser.add_argument("--docs", action="store_true", help="also put the tables into docs/performance.md")
    parser.add_argument(
        "--read", type=given, metavar="FILE", help="the figures of an earlier --json instead of new ones"
    )
    options = parser.parse_args()
    earlier = None
    if options.read is not None:
        try:
            earlier = page.read(options.read)
        except (OSError, ValueError) as problem:
            parser.error(f"argument --read: {reason(problem) if isinstance(problem, OSError) else problem}")
    prepare_comfyui()
    from comfy.cli_args import args

    # What the peers use; on a CPU ComfyUI's own choice takes up to twice as long.
    args.use_pytorch_cross_attention = True
    load_pack()
    from devtools.machine import description

    from .machine import prepare

    prepare()
    names = [options.name] if options.name else list(NAMES)
    parts = ["python dev.py bench", options.name, "--quick" if options.quick else None]
    command = " ".join(part for part in parts if part)
    result: dict[str, Any] = {**description(), "command": command, "rows": []}
    if earlier is not None:
        result = earlier
        names = [name for name in names if any(row["benchmark"] == name for row in result["rows"])]
    sys.stdout.write(f"{page.caption(result)}\n")
    for name in names:
        module = module_of(name)
        if earlier is None:
            result["rows"] += [{"benchmark": name, **row} for row in module.rows(options.quick)]
        rows = [row for row in result["rows"] if row["benchmark"] == name]
        table = module.table(rows)
        sys.stdout.write(f"\n{table}\n")
        if options.docs:
            page.write(page.PAGE, name, result, table)
        if options.out is not None and hasattr(module, "plot"):
            module.plot(rows, options.out)
    if options.json is not None:
        write(options.json, json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
