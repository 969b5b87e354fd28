"""The pack inside a real server: what it offers, neutral settings, the workflow files."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from server_prompts import SETTINGS, calls, concept, guided, latent, node, plain, sega_sampler, swept

from devtools.demo.demo import place
from devtools.demo.scenes import LEFT_OUT, SCENES, override, workflow_file
from devtools.host import ROOT
from devtools.server.results import MASK, cells, fetch, measure, with_previews
from devtools.server.server import PACK
from devtools.server.workflows import load, to_prompt

pytestmark = pytest.mark.server


def test_the_page_is_offered_exactly_the_packs_nodes(object_info):
    offered = {name for name, info in object_info.items() if info["python_module"] == f"custom_nodes.{PACK}"}
    assert offered == {
        "SEGAConcept", "SEGAConceptConditioning", "SEGAGuidance", "SEGASampler", "SEGASweep", "SEGAReport",
        "SEGASaveVectors", "SEGALoadVectors", "SEGAApplyVectors", "DDIMInvert", "DiffEditMask", "DiffEditSampler",
        "InstructPix2PixGuider", "SliderLoRALoader", "SliderSweep", "LabelledStrip", "SliderTrainText",
        "SliderTrainImages", "DreamBoothTrain", "TextDirection",
    }  # fmt: skip


def test_no_pack_failed_to_import(server):
    lines = server.log().splitlines()
    assert any(PACK in line and "seconds" in line for line in lines)  # the host's list of imports is there
    assert not [line for line in lines if "IMPORT FAILED" in line and "custom_nodes" in line]


def test_the_recorded_classes_are_the_servers(object_info, recorded_info):
    for name, recorded in recorded_info.items():
        for kind, inputs in recorded["input"].items():
            assert list(inputs) == list(object_info[name]["input"][kind]), name


@pytest.mark.parametrize("name", sorted(SCENES))
def test_a_workflow_file_runs(server, object_info, checkpoint, name):
    workflow, scene = load(workflow_file(name)), SCENES[name]
    loads = scene.portrait is not None
    size, picture = (128, place(server.base, f"{name}.png", scene, seed=3)) if loads else (64, None)
    prompt = with_previews(to_prompt(workflow, object_info))
    prompt = override(workflow, prompt, checkpoint.name, size, scene, seed=3, picture=picture)
    for entry in prompt.values():
        if entry["class_type"] in ("KSampler", "SliderTrainText", "SliderTrainImages", "DreamBoothTrain"):
            entry["inputs"]["steps"] = 4
        elif entry["class_type"] == "DiffEditMask":
            entry["inputs"] |= {"threshold": 0.2, "maps": 2}  # random weights differ a little everywhere
    outputs = server.client.run(prompt)
    before, *after = fetch(server.client, outputs)
    if not after:  # a training's own strip
        before, *after = cells(before, size)
        assert len(after) >= 2
    for other in after:
        assert before.size == other.size == (size, size)
        assert not np.array_equal(np.asarray(before), np.asarray(other))
    if scene.portrait is not None and not (scene.portrait.strokes or scene.portrait.marked):
        assert np.array_equal(np.asarray(before), np.asarray(scene.portrait.picture(3)))
    if MASK in outputs:
        entry = {}
        measure(server.client, [before, *after], prompt, outputs, entry)
        assert entry["background_exact"]


def test_every_workflow_file_has_a_scene_or_is_left_out():
    """Those left out run in test_edit_models.py."""
    names = [*SCENES, *LEFT_OUT]
    assert sorted((ROOT / "workflows").glob("*.json")) == sorted(map(workflow_file, names))
    assert len(set(names)) == len(names)


def test_both_doors_give_the_same_edit(server):
    reference = latent(server, plain())
    edited = latent(server, guided())
    assert (edited - reference).norm() > 0.01 * reference.norm()
    assert torch.equal(latent(server, sega_sampler()), edited)


@pytest.mark.parametrize("make", [guided, sega_sampler])
def test_unconnected_concepts_are_neutral(server, make):
    prompt = make(seed=2)
    for entry in prompt.values():
        entry["inputs"].pop("concepts", None)
    assert torch.equal(latent(server, prompt), latent(server, plain(seed=2)))


def test_a_mask_of_zeros_is_neutral(server):
    prompt = guided(seed=2)
    prompt["mask"] = node("SolidMask", value=0.0, width=64, height=64)
    prompt["concept"]["inputs"]["mask"] = ["mask", 0]
    assert torch.equal(latent(server, prompt), latent(server, plain(seed=2)))
    prompt["mask"]["inputs"]["value"] = 1.0
    assert not torch.equal(latent(server, prompt), latent(server, plain(seed=2)))


def test_concepts_add_no_model_calls(server):
    """Positive, negative and two concepts are one call in every step."""
    prompt = guided(seed=4)
    prompt["second"] = concept("smile")
    prompt["second"]["inputs"]["concepts"] = ["concept", 0]
    prompt["guidance"]["inputs"]["concepts"] = ["second", 0]
    before = calls(server)
    latent(server, prompt)
    assert calls(server) - before == prompt["sampler"]["inputs"]["steps"]


@pytest.mark.parametrize("door", ["guidance", "sampler"])
def test_a_sweep_is_one_batched_run_of_the_single_pictures(server, door):
    # Without a threshold: which positions are the strongest 10 % can turn on the last bit of a batched forward.
    prompt = swept(seed=6, threshold=0.0)
    if door == "sampler":
        inputs = {**prompt["sampler"]["inputs"], **SETTINGS, "concepts": ["sweep", 0], "model": ["checkpoint", 0]}
        prompt["sampler"] = node("SEGASampler", **inputs)
        del prompt["guidance"]
    before = calls(server)
    found = latent(server, prompt)
    assert calls(server) - before == prompt["sampler"]["inputs"]["steps"]
    singles = [latent(server, guided(seed=6, scale=scale, threshold=0.0)) for scale in (-6.0, 0.0, 6.0)]
    for entry, single in zip(found, singles, strict=True):
        assert (entry - single[0]).norm() < 1e-4 * single.norm()
        assert all((entry - other[0]).norm() > 0.01 * other.norm() for other in singles if other is not single)


def test_a_sweeps_pictures_come_side_by_side(server):
    prompt = swept(seed=7)
    prompt["each"] = node("SaveImage", images=["pictures", 0], filename_prefix="each")
    outputs = server.client.run(prompt)
    (sheet,), pictures = (
        [np.asarray(Image.open(BytesIO(server.client.view(found)))) for found in outputs[name]["images"]]
        for name in ("show", "each")
    )
    gap = (sheet.shape[1] - 3 * 64) // 4
    top = len(sheet) - 64 - gap
    for i, picture in enumerate(pictures):
        left = gap + i * (64 + gap)
        assert np.array_equal(sheet[top : top + 64, left : left + 64], picture)
        assert sheet[:top, left : left + 64].min() < 100  # its caption
