"""The table of the help pages' pictures against the workflow files, the committed pictures and the pages, no server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from devtools.demo.scenes import SCENES, workflow_file
from devtools.host import ROOT
from devtools.pictures.pictures import POSITION, changed, main, nodes
from devtools.pictures.table import PICTURES
from devtools.pictures.takes import AGAIN, DOCS, HELP, SAVED, Picture, Take
from devtools.server.results import AFTER, with_previews
from devtools.server.workflows import load, to_prompt

INFO = json.loads((Path(__file__).parent / "object_info.json").read_text(encoding="utf-8"))
KB = 1024
SHOWING = ("PreviewImage", "SliderTrainText", "SliderTrainImages", "DreamBoothTrain")  # a trainer shows its own strip
SHOWN = re.compile(r"!\[[^\]]+\]\(([^)]+)\)")
WITHOUT = "InstructPix2PixGuider"  # the demo has no such model; its page says so
TAKES = [(f"{name} {i}", picture, take) for name, picture in PICTURES.items() for i, take in enumerate(picture.takes)]


def whole(picture: Picture, take: Take):
    name = take.workflow or picture.workflow
    prompt = changed(with_previews(to_prompt(load(workflow_file(name)), INFO)), picture.common, {})
    return changed(prompt, take.changes, take.added)


@pytest.mark.parametrize(("picture", "take"), [t[1:] for t in TAKES], ids=[t[0] for t in TAKES])
def test_every_take_is_a_prompt_that_the_server_knows(picture, take):
    prompt = whole(picture, take)
    assert (take.workflow or picture.workflow) in SCENES
    for node_id, node in prompt.items():
        inputs = INFO[node["class_type"]]["input"]
        known = {**inputs.get("required", {}), **inputs.get("optional", {})}
        names = {name.partition(".")[0] for name in node["inputs"]}  # of a row of sockets that grows, the row's
        assert names <= set(known), node_id
        assert set(inputs.get("required", {})) <= names, node_id
        for name, value in node["inputs"].items():
            if isinstance(value, list) and name in known:
                assert INFO[prompt[value[0]]["class_type"]]["output"][value[1]] == known[name][0], f"{node_id}.{name}"
    shown = sum(node_id.startswith(AFTER) for node_id in prompt)
    if take.shows in POSITION:
        assert shown >= (2 if take.shows == AGAIN else 1)
    else:
        assert take.shows == SAVED or prompt[take.shows]["class_type"] in SHOWING


def test_a_link_is_resolved_and_the_prompt_stays_as_it_was():
    prompt = {"1": {"class_type": "A", "inputs": {"x": 1}, "_meta": {"title": "first"}}}
    new = {"new": {"class_type": "B", "inputs": {"z": ["A", 0]}}}
    result = changed(prompt, {"first": {"x": 2, "y": ["new", 1]}}, new)
    assert result["1"]["inputs"] == {"x": 2, "y": ["new", 1]}
    assert result["new"]["inputs"] == {"z": ["1", 0]}
    assert prompt["1"]["inputs"] == {"x": 1} and nodes(prompt, "new") == []
    with pytest.raises(ValueError, match="no node 'C' in the workflow"):
        changed(prompt, {"C": {"x": 1}}, {})


def test_the_help_pages_pictures_are_those_of_the_table():
    made = {file.stem for file in (ROOT / HELP).iterdir()}
    assert made == {name for name, picture in PICTURES.items() if picture.folder == HELP}
    assert all((ROOT / DOCS / f"{n}.webp").exists() for n, picture in PICTURES.items() if picture.folder == DOCS)


def test_the_pictures_are_small():
    sizes = {file.name: file.stat().st_size for file in (ROOT / HELP).iterdir()}
    assert max(sizes.values()) <= 25 * KB
    assert sum(sizes.values()) <= 350 * KB


def pictures_in(page: Path) -> set[str]:
    return set(SHOWN.findall(page.read_text(encoding="utf-8")))


def test_every_help_page_shows_a_picture_that_the_page_can_load():
    pages = {page.stem: pictures_in(page) for page in (ROOT / HELP).parent.glob("*.md")}
    assert not pages.pop(WITHOUT)
    assert all(pages.values()), [name for name, shown in pages.items() if not shown]
    shown = set().union(*pages.values())
    assert shown == {f"img/{name}.webp" for name, picture in PICTURES.items() if picture.folder == HELP}


def test_the_page_of_parameters_shows_every_strip_of_a_parameter():
    shown = {Path(link).stem for link in pictures_in(ROOT / "docs" / "parameters.md")}
    values = {name for name, p in PICTURES.items() if any(re.search(r" -?[\d.]+\n", t.label) for t in p.takes)}
    assert values <= shown


def test_an_unknown_name_is_refused_before_a_server_starts(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pictures", "sega-scale", "sega-what"])
    with pytest.raises(SystemExit):
        main()
    assert "no such picture: sega-what; there are overview, sega-concepts" in capsys.readouterr().err
