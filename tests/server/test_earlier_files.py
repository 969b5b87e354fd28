"""Workflow files of earlier versions still open and run: every value is read as the input that it was saved for.

earlier/ holds files as they were before a node got further inputs. sega_one_concept.json is from before SEGA Guidance's
`refresh` and what came after it, change_one_thing.json from before SEGA Concept's `prompt`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from devtools.demo.scenes import SCENES, override
from devtools.server.results import view
from devtools.server.workflows import load, to_prompt

pytestmark = pytest.mark.server
EARLIER = Path(__file__).parent / "earlier"
SAVED = {
    "sega_one_concept": {
        "SEGAConcept": {
            "text": "glasses", "direction": "add", "scale": 5.0, "start_percent": 0.2, "threshold": 0.9,
            "end_percent": 1.0,
        },
        "SEGAGuidance": {
            "momentum_scale": 0.1, "momentum_beta": 0.4, "threshold_over": "channel", "base": "auto",
        },
    },
    "change_one_thing": {
        "SEGAConcept": {
            "text": "glasses", "direction": "add", "scale": 5.0, "start_percent": 0.2, "threshold": 0.9,
            "end_percent": 1.0,
        },
        "SEGAGuidance": {
            "momentum_scale": 0.0, "momentum_beta": 0.4, "threshold_over": "channel", "base": "auto", "refresh": 1,
        },
    },
}  # fmt: skip


def test_every_file_is_tested():
    assert {file.stem for file in EARLIER.iterdir()} == set(SAVED)


@pytest.mark.parametrize("name", SAVED)
def test_an_earlier_file_runs_with_the_values_that_it_holds(server, object_info, checkpoint, name):
    workflow = load(EARLIER / f"{name}.json")
    prompt = to_prompt(workflow, object_info)
    kinds = {node["class_type"]: node["inputs"] for node in prompt.values()}
    for kind, values in SAVED[name].items():
        assert values.items() <= kinds[kind].items()
        fields = object_info[kind]["input"]
        options = {**fields["required"], **fields.get("optional", {})}
        for later in kinds[kind].keys() - values.keys():  # sockets, and what was appended since
            assert isinstance(kinds[kind][later], list) or kinds[kind][later] == options[later][1]["default"]
    prompt = override(workflow, prompt, checkpoint.name, 64, SCENES["sega_one_concept"], seed=3)
    for entry in prompt.values():
        if entry["class_type"] == "KSampler":
            entry["inputs"]["steps"] = 4
    (compared,) = (output for output in server.client.run(prompt).values() if "a_images" in output)
    before, after = (view(server.client, compared[side][0]) for side in ("a_images", "b_images"))
    assert not np.array_equal(np.asarray(before), np.asarray(after))
