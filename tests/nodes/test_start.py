"""A start on a ComfyUI that lacks something: the log says what and which release has it, the other nodes load."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from semantic_steering.nodes import NODES
from semantic_steering.nodes.host.start.lacking import OLDEST, SINCE, reported

from devtools.release.hosts import read

ROOT = Path(__file__).resolve().parents[2]
# In a process of its own, after something of ComfyUI was hidden.
START = """
import asyncio, json, logging, sys
from devtools.host import load_pack, prepare_comfyui
logging.basicConfig()
prepare_comfyui(cpu=True)
exec(sys.argv[1])
extension = asyncio.run(load_pack().comfy_entrypoint())
print(json.dumps([node.define_schema().node_id for node in asyncio.run(extension.get_node_list())]))
"""
WITHOUT_A_WORD = """
from comfy_api.latest import io
class Schema(io.Schema):
    def __init__(self, **words):
        if "has_intermediate_output" in words:
            raise TypeError("Schema.__init__() got an unexpected keyword argument 'has_intermediate_output'")
        super().__init__(**words)
io.Schema = Schema
"""
ALL = {node.define_schema().node_id for node in NODES}
SLIDERS = {
    "SliderLoRALoader", "SliderSweep", "TextDirection", "SliderTrainText", "SliderTrainImages", "DreamBoothTrain",
}  # fmt: skip
FILES_OF_THEIR_OWN = {"SEGASaveVectors", "SEGALoadVectors", "SEGAApplyVectors", "SEGAReport"}


def start(hide: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START, hide]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hide", "said", "lost"),
    [
        ("", "", set()),
        (
            "import comfy.sd, comfy.samplers; sys.modules['comfy.weight_adapter.bypass'] = None",
            "sliders cannot be loaded.*ComfyUI 0.11.0 was the first with weight_adapter.bypass",
            SLIDERS,
        ),
        (
            WITHOUT_A_WORD,
            "DiffEdit cannot be loaded.*ComfyUI 0.19.0 was the first with has_intermediate_output",
            {name for name in ALL if name.startswith(("DiffEdit", "SEGA"))} - FILES_OF_THEIR_OWN,
        ),
        (
            "import comfy.conds; del comfy.conds.CONDRegular",
            f"sliders cannot be loaded.*cannot import name 'CONDRegular'.*ComfyUI {OLDEST} has it",
            SLIDERS,
        ),
    ],
    ids=["nothing", "a module", "a word of schemas", "a name"],
)
def test_what_a_comfyui_lacks_costs_the_nodes_that_need_it(hide, said, lost):
    done = start(hide)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])) == ALL - lost
    assert lost < ALL
    errors = [line for line in done.stderr.splitlines() if "cannot be loaded" in line]
    assert bool(errors) is bool(lost)
    assert not said or any(re.search(said, line) for line in errors), done.stderr


@pytest.mark.slow
def test_a_comfyui_without_the_nodes_api_is_told_in_the_packs_error():
    done = start("sys.modules['comfy_api.latest'] = None")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: Semantic Steering needs ComfyUI 0.30.0 or newer (")
    assert "ComfyUI 0.3.48 was the first with comfy_api.latest" in done.stderr


def test_any_other_error_of_a_file_is_not_hidden(caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match="ours"), reported("nodes"):
        raise ValueError("ours")
    assert not caplog.records


def test_the_oldest_release_is_the_one_that_was_run():
    order = [tuple(map(int, version.split("."))) for version in (*SINCE.values(), OLDEST)]
    assert max(order) == order[-1]
    assert {record.comfyui for record in read()} >= {OLDEST}
    assert f"ComfyUI {OLDEST} or newer" in (ROOT / "__init__.py").read_text(encoding="utf-8")
