"""Concept vectors through a real server: recorded, written, chosen from the list, applied."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from server_prompts import assert_refused, assert_still_runs, calls, latent, node, plain, sega_sampler

pytestmark = pytest.mark.server


def saved(server, prefix, seed=21):
    """Record an edit; its latent, and the name of its file as the list shows it."""
    prompt = sega_sampler(seed=seed)
    prompt["keep"] = node("SEGASaveVectors", vectors=["sampler", 2], filename_prefix=prefix)
    edited = latent(server, prompt)
    (name,) = [found for found in files(server) if found.startswith(prefix)]
    return edited, name


def files(server):
    return server.client.object_info()["SEGALoadVectors"]["input"]["required"]["file"][1]["options"]


def applied(name, seed=21, scale=1.0):
    prompt = plain(seed=seed)
    prompt["vectors"] = node("SEGALoadVectors", file=name)
    prompt["apply"] = node("SEGAApplyVectors", model=["checkpoint", 0], vectors=["vectors", 0], scale=scale)
    prompt["sampler"]["inputs"]["model"] = ["apply", 0]
    return prompt


def test_a_recorded_edit_comes_back_from_its_file_without_its_concept(server):
    edited, name = saved(server, "kept/edit")
    assert name == "kept/edit_00001_.sega.safetensors [output]"
    before = calls(server)
    found = latent(server, applied(name))
    assert calls(server) - before == 4
    reference = latent(server, plain(seed=21))
    assert (edited - reference).norm() > 0.01 * reference.norm()
    assert (found - edited).norm() < 1e-4 * edited.norm()
    assert torch.equal(latent(server, applied(name, scale=0.0)), reference)
    with safe_open(server.base / "output" / name.removesuffix(" [output]"), "pt") as file:
        assert '"SEGASampler"' in file.metadata()["prompt"]


def test_vectors_that_are_asked_for_later_are_those_of_the_run(server):
    """The sampler's outputs come from ComfyUI's cache then, which holds no vectors."""
    latent(server, sega_sampler(seed=27))
    before = calls(server)
    _, late = saved(server, "kept/late", seed=27)
    assert calls(server) - before == 4  # the run once more
    latent(server, plain(seed=26))  # another prompt takes the cache
    before = calls(server)
    _, at_once = saved(server, "kept/at_once", seed=27)
    assert calls(server) - before == 4

    def gamma(file):
        with safe_open(server.base / "output" / file.removesuffix(" [output]"), "pt") as opened:
            return opened.get_tensor("gamma").clone()

    assert torch.equal(gamma(late), gamma(at_once))
    assert gamma(late).any()


def test_a_damaged_file_is_refused_on_its_node(server):
    _, name = saved(server, "kept/damaged", seed=22)
    path = server.base / "output" / name.removesuffix(" [output]")
    with safe_open(path, "pt") as file:
        header, gamma = file.metadata(), file.get_tensor("gamma").clone()
    save_file({"gamma": gamma * float("nan")}, path, header)
    assert_refused(
        server, applied(name, seed=23), "SEGALoadVectors", "hold NaN or infinite values", "Record them again"
    )
    path.write_bytes(b"nothing")
    assert_refused(server, applied(name, seed=24), "no safetensors file")
    assert_still_runs(server)


def test_a_file_that_is_not_in_the_list_is_refused(server):
    assert_refused(server, applied("../../etc/passwd"), "file")
    assert_still_runs(server)
