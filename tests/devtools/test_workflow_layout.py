"""The workflow files look tidy in both renderers of the page, as far as that can be seen without a browser."""

from __future__ import annotations

from itertools import pairwise

import pytest

from devtools.demo.scenes import LEFT_OUT, SCENES, workflow_file
from devtools.server.workflows import load

TITLE, SLOT = 30, 20  # heights of a node's title bar and of a row of sockets
# The least height at which both renderers draw a node as it is stored; smaller ones they enlarge (page 1.47.12).
HEIGHTS = {
    "BasicScheduler": 118, "BatchImagesNode": 106, "CFGGuider": 102, "CheckpointLoaderSimple": 126,
    "CLIPTextEncode": 102, "DDIMInvert": 306, "DiffEditMask": 306, "DiffEditSampler": 166, "DreamBoothTrain": 514,
    "DualCLIPLoader": 142, "EmptyLatentImage": 118, "FluxGuidance": 62, "FluxKontextImageScale": 34,
    "ImageCompositeMasked": 158, "ImageScaleToTotalPixels": 130, "InstructPix2PixGuider": 214, "KSampler": 262,
    "KSamplerAdvanced": 334, "KSamplerSelect": 62, "LabelledStrip": 130, "LoadImage": 330, "Note": 88,
    "PrimitiveStringMultiline": 88, "RandomNoise": 82, "ReferenceLatent": 54, "SamplerCustomAdvanced": 126,
    "SaveImage": 58, "SaveLoRA": 102, "SEGAConcept": 298, "SEGAGuidance": 198, "SliderLoRALoader": 194,
    "SliderSweep": 170, "SliderTrainImages": 470, "SliderTrainText": 694, "UNETLoader": 86, "VAEDecode": 54,
    "VAEEncode": 54, "VAELoader": 86,
}  # fmt: skip
WIDTH = 225  # the least width


@pytest.fixture(params=sorted({*SCENES, *LEFT_OUT}))
def workflow(request):
    return load(workflow_file(request.param))


def boxes(workflow):
    """Left, top, right and bottom of every node, with its title bar; of a collapsed one that bar alone."""
    return {
        node["id"]: (node["pos"][0], node["pos"][1] - TITLE, node["pos"][0] + node["size"][0],
                     node["pos"][1] + (0 if node["flags"].get("collapsed") else node["size"][1]))
        for node in workflow["nodes"]
    }  # fmt: skip


def paths(workflow):
    """Every link's origin, target and corners: its two sockets, and the reroutes that lead it around nodes."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    reroutes = {entry["id"]: entry for entry in workflow["extra"].get("reroutes", [])}
    last = {entry["id"]: entry["parentId"] for entry in workflow["extra"].get("linkExtensions", [])}
    for link, origin, origin_slot, target, target_slot, _ in workflow["links"]:
        (x, y), width = nodes[origin]["pos"], nodes[origin]["size"][0]
        corners = [(nodes[target]["pos"][0], nodes[target]["pos"][1] + SLOT * (target_slot + 0.7))]
        step = last.get(link)
        while step is not None:
            assert link in reroutes[step]["linkIds"]
            corners.append(tuple(reroutes[step]["pos"]))
            step = reroutes[step].get("parentId")
        yield origin, target, [(x + width, y + SLOT * (origin_slot + 0.7)), *reversed(corners)]


def test_nodes_are_as_large_as_both_renderers_draw_them(workflow):
    for node in workflow["nodes"]:
        assert node["size"][1] >= HEIGHTS[node["type"]], node["type"]
        assert node["size"][0] >= WIDTH, node["type"]


def test_nodes_do_not_overlap(workflow):
    places = boxes(workflow)
    for one, (left, top, right, bottom) in places.items():
        for other, (left2, top2, right2, bottom2) in places.items():
            assert one == other or right < left2 or right2 < left or bottom < top2 or bottom2 < top, (one, other)


def test_links_run_to_the_right_or_down_their_column_and_around_other_nodes(workflow):
    """Each link as the straight lines between its corners; the page draws them as curves close to that."""
    places = boxes(workflow)
    for origin, target, corners in paths(workflow):
        (left, top, *_), (left2, top2, *_) = places[origin], places[target]
        assert left < left2 or (left == left2 and top < top2), (origin, target)
        if left == left2:  # beside what stands between them in the column
            corners = corners[1:-1]
        for (x, y), (x2, y2) in pairwise(corners):
            points = [(x + (x2 - x) * i / 100, y + (y2 - y) * i / 100) for i in range(101)]
            for node, (left, top, right, bottom) in places.items():
                behind = any(left < a < right and top < b < bottom for a, b in points)
                assert node in (origin, target) or not behind, (origin, target, node)


def test_it_opens_at_half_its_size_or_more(workflow):
    """The page fits a template to three quarters of its window: a small one has 1280 x 800 pixels. Below 8/14 of its
    size the classic renderer leaves texts out."""
    places = boxes(workflow).values()
    width, height = (max(place[i + 2] for place in places) - min(place[i] for place in places) for i in (0, 1))
    assert 0.75 * min(1280 / width, 800 / height) >= 8 / 14


def test_the_group_encloses_its_nodes(workflow):
    (group,) = workflow["groups"]
    left, top, width, height = group["bounding"]
    for node_left, node_top, node_right, node_bottom in boxes(workflow).values():
        inside = left < node_left and node_right < left + width and top < node_top and node_bottom < top + height
        outside = node_right < left or left + width < node_left or node_bottom < top or top + height < node_top
        assert inside or outside


def test_links_agree_with_the_slots(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for link, origin, origin_slot, target, target_slot, kind in workflow["links"]:
        assert link in nodes[origin]["outputs"][origin_slot]["links"]
        assert nodes[target]["inputs"][target_slot]["link"] == link
        assert nodes[origin]["outputs"][origin_slot]["type"] == nodes[target]["inputs"][target_slot]["type"] == kind
