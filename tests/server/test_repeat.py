"""Running a prompt again gives the same bits, whatever came in between."""

from __future__ import annotations

import time

import pytest
import torch
from server_prompts import calls, concept, guided, latent, node, plain, sega_sampler, slider, slider_sweep, swept

from devtools.server.client import PromptInterrupted

pytestmark = pytest.mark.server


def other(seed: int = 7):
    """A prompt with other concepts, settings and size."""
    prompt = guided(seed=seed, direction="remove", scale=3.0)
    prompt["second"] = concept("smile", start_percent=0.4)
    prompt["second"]["inputs"]["concepts"] = ["concept", 0]
    prompt["guidance"]["inputs"] |= {"concepts": ["second", 0], "momentum_scale": 0.5}
    prompt["latent"]["inputs"]["width"] = 96
    return prompt


def counted(server, prompt) -> torch.Tensor:
    """The latent of a prompt that was really sampled."""
    before = calls(server)
    result = latent(server, prompt)
    assert calls(server) > before
    return result


def test_a_prompt_gives_the_same_bits_again(server, uncached_server):
    first = counted(uncached_server, guided())
    assert not torch.equal(counted(uncached_server, other()), first)
    assert torch.equal(counted(uncached_server, guided()), first)
    assert torch.equal(counted(uncached_server, guided()), first)
    # With the cache the nodes, and what they returned, are the same objects as before.
    prompt = guided()
    prompt["sampler"]["inputs"]["seed"] = 31
    cached = counted(server, prompt)
    counted(server, other(seed=32))
    prompt["sampler"]["inputs"]["seed"] = 33
    counted(server, prompt)
    prompt["sampler"]["inputs"]["seed"] = 31
    assert torch.equal(latent(server, prompt), cached)
    assert torch.equal(counted(uncached_server, prompt), cached)


def recorded(seed: int):
    """An edit's vectors, added to the same picture in the same prompt."""
    prompt = sega_sampler(seed)
    prompt["apply"] = node("SEGAApplyVectors", model=["checkpoint", 0], vectors=["sampler", 2], scale=1.0)
    prompt["again"] = plain(seed)["sampler"]
    prompt["again"]["inputs"]["model"] = ["apply", 0]
    prompt["save"]["inputs"]["samples"] = ["again", 0]
    return prompt


@pytest.mark.parametrize("make", [recorded, slider, slider_sweep, swept])
def test_seeds_may_be_split_among_servers(server, uncached_server, make):
    """Whatever each of them ran before: docs/distributed.md."""
    first, second = counted(server, make(seed=4001)), counted(server, make(seed=4002))
    assert not torch.equal(first, second)
    assert torch.equal(counted(uncached_server, make(seed=4002)), second)
    assert torch.equal(counted(uncached_server, make(seed=4001)), first)


def test_an_interrupt_leaves_nothing_behind(uncached_server):
    server, prompt = uncached_server, guided(seed=5)
    prompt["sampler"]["inputs"]["steps"] = 60
    expected = counted(server, prompt)
    before = calls(server)
    prompt_id = server.client.queue(prompt)
    deadline = time.monotonic() + 60
    while calls(server) < before + 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.client.interrupt()
    with pytest.raises(PromptInterrupted):
        server.client.wait(prompt_id)
    assert before < calls(server) < before + 60
    assert torch.equal(counted(server, prompt), expected)
