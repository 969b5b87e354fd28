"""Installed as users do it: the registry's package copied into a fresh ComfyUI's custom_nodes, and nothing else."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from devtools.host import ROOT
from devtools.release import package
from devtools.server.server import FOLDERS, Server

pytestmark = [pytest.mark.server, pytest.mark.slow]
NAME = "semantic-steering-main"  # of a downloaded archive; the host serves no files of a folder with a space


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    base = tmp_path_factory.mktemp("installed") / "my ComfyUI.2"
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True)
    package.unpack(base / "custom_nodes" / NAME)
    with Server(base) as running:
        yield running


def get(server, path: str):
    return json.loads(server.client.get(path))


def test_all_nodes_are_there_and_nothing_was_said_about_the_pack(fresh):
    expected = set(json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8")))
    offered = {
        name for name, info in fresh.client.object_info().items() if info["python_module"] == f"custom_nodes.{NAME}"
    }
    assert offered == expected
    lines = [line for line in fresh.log().splitlines() if NAME in line]
    assert len(lines) == 1 and "seconds" in lines[0], lines  # the host's list of import times


def test_its_help_texts_and_templates_are_served(fresh):
    for name in package.files():
        if name.startswith("web/"):
            served = fresh.client.get(f"/extensions/{NAME}/{name.removeprefix('web/')}")
            assert served == (ROOT / name).read_bytes(), name
    templates = get(fresh, "/workflow_templates")[NAME]
    assert set(templates) == {file.stem for file in (ROOT / "workflows").glob("*.json")}
    for template in templates:
        assert get(fresh, f"/api/workflow_templates/{NAME}/{quote(template)}.json")["nodes"]
    texts = get(fresh, "/i18n")["en"]["nodeDefs"]
    assert texts["SEGAConcept"]["display_name"] == "SEGA Concept"
