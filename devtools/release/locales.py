"""`python -m devtools.release.locales`: locales/en/nodeDefs.json from the node schemas (`--check` only compares).

ComfyUI takes the texts that it shows and that other languages translate from that file. After translating a new or
changed text in locales/<language>: `python -m devtools.release.locales --translated <language>`, see translations.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..environment import SetupError, environment, say
from .translations import (
    LANGUAGES,
    RESERVED,
    definitions_file,
    mark_translated,
    problems,
    reserved,
    texts,
)

ROOT = Path(__file__).resolve().parents[2]
TARGET = definitions_file("en")
OPEN = {"sampler_name", "scheduler", "lora_name", "file"}  # their choices are the host's, or files of the machine


def load_nodes(comfyui: Path) -> list[Any]:
    """The pack's node classes, imported by path as ComfyUI does, on the CPU."""
    sys.path[:] = [str(comfyui), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT)]
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    spec = importlib.util.spec_from_file_location(
        "semantic_steering_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None  # a file path always gives both
    package = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = package
    spec.loader.exec_module(package)
    return importlib.import_module(f"{spec.name}.nodes").NODES


def definitions(nodes: list[Any]) -> dict[str, Any]:
    """{node id: display name, description, inputs by id, outputs by position} as the frontend looks them up."""
    found: dict[str, Any] = {}
    for node in nodes:
        schema = node.define_schema()
        entry: dict[str, Any] = {"display_name": schema.display_name, "description": schema.description}
        entry["inputs"] = {field.id: _input(field) for field in schema.inputs}
        entry["outputs"] = {
            str(i): {"name": field.display_name} | ({"tooltip": field.tooltip} if field.tooltip else {})
            for i, field in enumerate(schema.outputs)
        }
        for text in texts(entry).values():
            if reserved(text):
                raise ValueError(f"{schema.node_id}: {text!r} holds one of {RESERVED}, which vue-i18n would interpret")
        found[schema.node_id] = entry
    return found


def _input(field: Any) -> dict[str, Any]:
    """Its texts. The page knows no `placeholder` and no `choices`: web/choices.js shows those."""
    found: dict[str, Any] = {"name": field.id, "tooltip": field.tooltip}
    if placeholder := getattr(field, "placeholder", None):
        found["placeholder"] = placeholder
    if (choices := getattr(field, "options", None)) and field.id not in OPEN:
        found["choices"] = {choice: choice for choice in choices}
    return found


def _say_what_to_translate(languages: tuple[str, ...] = LANGUAGES) -> bool:
    left = [line for language in languages for line in problems(language)]
    for line in left:
        say(line)
    if left:
        say("translate, then run `python -m devtools.release.locales --translated LANGUAGE`")
    return bool(left)


def main() -> int:
    parser = argparse.ArgumentParser(prog="devtools.release.locales", description="Writes locales/en/nodeDefs.json.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a language is out of step")
    parser.add_argument(
        "--translated", choices=LANGUAGES, help="record that every translation fits the English text as it is now"
    )
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)  # ComfyUI's folder, once in its own Python
    options = parser.parse_args()
    if options.translated:
        mark_translated(options.translated)
        return _say_what_to_translate((options.translated,))
    if options.inside is None:
        try:
            found = environment()
        except SetupError as problem:
            say(f"set-up stopped: {problem}")
            return 1
        command = [str(found.python), "-m", "devtools.release.locales", "--inside", str(found.comfyui)]
        variables = dict(os.environ, PYTHONUTF8="1")
        return subprocess.call(command + ["--check"] * options.check, cwd=ROOT, env=variables)
    text = json.dumps(definitions(load_nodes(options.inside)), indent=1, ensure_ascii=False) + "\n"
    if options.check:
        same = TARGET.exists() and TARGET.read_text(encoding="utf-8") == text
        if not same:
            say("locales/en/nodeDefs.json is out of step with the schemas: run `python -m devtools.release.locales`")
        return 1 if _say_what_to_translate() or not same else 0
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    say(f"wrote {TARGET.relative_to(ROOT)}")
    _say_what_to_translate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
