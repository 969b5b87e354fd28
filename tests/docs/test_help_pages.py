"""The help pages: whole, in step with the nodes' inputs, short, and narrow enough for ComfyUI's side panel."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "web" / "docs"
NODES = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
SAID = json.loads((ROOT / "locales" / "en" / "main.json").read_text(encoding="utf-8"))
OURS = "https://github.com/semantic-steering/semantic-steering/blob/main/"
MOST_WORDS = 600
# What fits into the panel's 320 px: of a table's row, of code in a line of its own, and of a word that does not break.
WIDEST_ROW, WIDEST_CODE, LONGEST_WORD = 40, 34, 30
ITEM = re.compile(r"^- `(\w+)`( \*advanced\*)?: (.+)\\\n  \S", re.MULTILINE)
LISTS = ("numbers from −20 to 20", {"scales", "strengths"})


def schemas() -> dict[str, dict[str, list]]:
    """By node its inputs, (name, type, options), and the names of its outputs, in order."""
    found: dict[str, dict[str, list]] = {}
    for part in (ROOT / "tests" / "nodes" / "schemas.txt").read_text(encoding="utf-8").split("\n\n"):
        head, *rows = part.strip().splitlines()
        node = found[head.split()[0]] = {"inputs": [], "outputs": []}
        for row in rows:
            kind, rest = row.split(maxsplit=1)
            name, rest = rest.split(": ", 1)
            if kind == "output":
                node["outputs"].append(name)
            else:
                type_, options = rest.split(" ", 1)
                node["inputs"].append((name, type_, json.loads(options), kind == "optional"))
    return found


SCHEMAS = schemas()


def page_of(node: str) -> str:
    return (FOLDER / f"{node}.md").read_text(encoding="utf-8")


def section(node: str, title: str) -> str:
    return page_of(node).partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def number(value: float) -> str:
    return "2⁶⁴ − 1" if value == 2**64 - 1 else f"{value:g}".replace("-", "−")


def one_of(options: list[str]) -> str:
    return f"{', '.join(options[:-1])} or {options[-1]}"


def first_line(name: str, kind: str, options: dict[str, Any], optional: bool) -> str:
    """What an input's item says of its range and default."""
    default = options.get("default")
    if kind in {"FLOAT", "INT"}:
        return f"{number(options['min'])} to {number(options['max'])}, default {number(default)}"
    if kind == "BOOLEAN":
        return f"on or off, default {'on' if default else 'off'}"
    if kind == "STRING":
        what = LISTS[0] if name in LISTS[1] else "text"
        return f"{what}, default {default or 'empty'}"
    if kind == "COMBO":
        what = one_of(options["options"]) if "options" in options else "a list"
        return f"{what}, default {default}" if default is not None else what
    return "optional" if optional else "required"


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_node_has_a_page_and_every_page_a_node():
    assert {file.stem for file in FOLDER.glob("*.md")} == set(NODES) == set(SCHEMAS)


@pytest.mark.parametrize("node", NODES)
def test_it_has_the_nodes_title_and_its_paper(node):
    page = page_of(node)
    assert page.startswith(f"# {NODES[node]['display_name']}\n")
    assert "arxiv.org/abs/" in page


@pytest.mark.parametrize("node", NODES)
def test_every_input_is_an_item_with_its_range_and_default(node):
    found = {name: (what, bool(advanced)) for name, advanced, what in ITEM.findall(section(node, "Inputs"))}
    wanted = {
        name: (first_line(name, kind, options, optional), options.get("advanced", False))
        for name, kind, options, optional in SCHEMAS[node]["inputs"]
    }
    assert found == wanted


@pytest.mark.parametrize("node", NODES)
def test_every_output_is_an_item_in_their_order(node):
    assert [name for name, *_ in ITEM.findall(section(node, "Outputs"))] == SCHEMAS[node]["outputs"]


@pytest.mark.parametrize("node", NODES)
def test_it_says_where_advanced_inputs_are(node):
    advanced = any(options.get("advanced") for _, _, options, _ in SCHEMAS[node]["inputs"])
    said = "*advanced*: collapsed at first, under the node's advanced inputs." in page_of(node)
    assert said == advanced


@pytest.mark.parametrize("node", NODES)
def test_it_is_short(node):
    assert len(page_of(node).split()) <= MOST_WORDS


@pytest.mark.parametrize("node", NODES)
def test_nothing_in_it_is_wider_than_the_panel(node):
    text = re.sub(r"\]\([^)\s]+\)", "]", page_of(node))  # addresses are not seen
    parts = text.split("```")
    code = [line for part in parts[1::2] for line in part.splitlines()[1:]]
    code += [line for line in text.splitlines() if line.startswith("    ")]
    assert not [line for line in code if len(line) > WIDEST_CODE]
    assert not [line for line in text.splitlines() if line.startswith("|") and len(line) > WIDEST_ROW]
    assert not [word for word in text.split() if len(word) > LONGEST_WORD]


@pytest.mark.parametrize("node", NODES)
def test_its_links_to_the_projects_pages_lead_somewhere(node):
    for link in re.findall(r"\]\((https://github\.com/semantic-steering/[^)\s]+)\)", page_of(node)):
        assert link.startswith(OURS)
        path, _, anchor = link.removeprefix(OURS).partition("#")
        assert (ROOT / path).is_file(), link
        assert not anchor or anchor in anchors(ROOT / path), link


@pytest.mark.parametrize("node", ["SEGAConcept", "SEGAConceptConditioning", "SEGAGuidance", "SEGASampler"])
def test_its_advice_is_that_of_the_node_in_the_same_order(node):
    scale, threshold = "`scale`", "`threshold`"
    more = [SAID_RAISE.format(input=scale), SAID_LOWER.format(input=threshold), texts("start_earlier")]
    less = [SAID_LOWER.format(input=scale), SAID_RAISE.format(input=threshold), "start later"]
    steps = re.findall(r"^\d\. (.+)$", section(node, "If it is not right"), re.MULTILINE)
    assert steps == more + less


def texts(key: str, of: Any = SAID) -> str:
    """The text of a key, wherever it stands in the page's texts."""
    if key in of:
        return of[key]
    return next((found for part in of.values() if isinstance(part, dict) and (found := texts(key, part))), "")


SAID_RAISE, SAID_LOWER = texts("raise"), texts("lower")


@pytest.mark.parametrize("row", ["| kl_optimal |", "| linear_quadratic |", "| 50 | 10.6 |"])
def test_the_tables_of_schedulers_and_of_cfg_plus_plus_stand_in_one_place(row):
    pages = [ROOT / "README.md", *FOLDER.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    assert [page.name for page in pages if row in page.read_text(encoding="utf-8")] == ["parameters.md"]
