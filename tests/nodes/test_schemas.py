"""Ids, inputs and outputs of all nodes are those of schemas.txt: saved workflow files depend on every one of them.

`python dev.py test tests/nodes/test_schemas.py --renew-schemas` writes the file anew.
"""

from __future__ import annotations

import json
from difflib import unified_diff
from pathlib import Path
from typing import Any

from semantic_steering.nodes import NODES

FILE = Path(__file__).with_name("schemas.txt")
TEXTS = {"tooltip", "display_name", "placeholder"}  # in locales/en, and free to change
HOSTS_LISTS = {"sampler_name", "scheduler", "lora_name", "file"}  # options that the host or its folders decide
ADVICE = """

Saved workflow files hold values by position and links by slot: append inputs and outputs, never rename, reorder or
remove them. If the change is meant, say under "### Workflows" in CHANGELOG.md what it does to saved graphs, then run
    python dev.py test tests/nodes/test_schemas.py --renew-schemas
"""


def lines(node: Any) -> list[str]:
    """What the page is told of a node, in the page's order: every input with its options, every output."""
    info = node.GET_NODE_INFO_V1()
    found = [f"{info['name']}{' (output node)' if info['output_node'] else ''}"]
    for need in ("required", "optional"):  # hidden ones are not saved
        for name, (kind, *rest) in info["input"].get(need, {}).items():
            left_out = TEXTS | ({"options"} if name in HOSTS_LISTS else set())
            options = {key: value for entry in rest for key, value in entry.items() if key not in left_out}
            found.append(f"    {need} {name}: {kind} {json.dumps(options, sort_keys=True)}")
    outputs = zip(info["output"], info["output_name"], info["output_is_list"], strict=True)
    found += [f"    output {name}: {kind}{' (list)' if is_list else ''}" for kind, name, is_list in outputs]
    return found


def test_the_schemas_are_the_recorded_ones(request):
    found = [line for node in NODES for line in [*lines(node), ""]]
    if request.config.getoption("--renew-schemas"):
        FILE.write_text("\n".join(found), encoding="utf-8")
    recorded = FILE.read_text(encoding="utf-8").split("\n")
    changes = "\n".join(unified_diff(recorded, found, "tests/nodes/schemas.txt", "nodes/", lineterm="", n=1))
    assert not changes, changes + ADVICE
