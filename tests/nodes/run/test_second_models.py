"""A patch acts through the runs of its own model, and only while they last may it pass as a part of one."""

from __future__ import annotations

import family_models
import pytest
import tiny_models
import torch
from comfy_extras.nodes_custom_sampler import DualModelGuider
from semantic_steering.nodes.sega import SEGAConceptConditioning, SEGAGuidance, SEGASampler
from semantic_steering.nodes.vectors import SEGAApplyVectors
from slider_runs import FAMILY, ONE, START, load

SIGMAS = torch.tensor([2.0, 1.0, 0.0])


def concepts() -> tuple:
    return SEGAConceptConditioning.execute(tiny_models.unet_cond(3), start_percent=0.0).args[0]


def vectors():
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    arguments = (5, 2, 4.0, "euler", "normal", FAMILY.positive, FAMILY.negative, latent)
    return SEGASampler.execute(FAMILY.model, *arguments, concepts=concepts()).args[2]


PATCHES = {
    "SEGA Guidance": lambda: SEGAGuidance.execute(FAMILY.model, concepts()).args[0],
    "concept vectors": lambda: SEGAApplyVectors.execute(FAMILY.model, vectors()).args[0],
    "a slider with a window or a sweep": lambda: load(FAMILY.model, ONE, 0.5, 0.2),
}


@pytest.mark.parametrize("fails", [False, True], ids=["after a run", "after a run that failed"])
@pytest.mark.parametrize("name", PATCHES)
def test_as_a_guiders_second_model_it_is_refused_after_a_run_of_its_own_too(name, fails):
    patched, other = PATCHES[name](), family_models.sd().model

    def stop(*_):
        if fails:
            raise RuntimeError("made up")

    try:
        tiny_models.sample_cfg(patched, FAMILY.positive, FAMILY.negative, 4.0, START[:1], SIGMAS, callback=stop)
        assert not fails
    except RuntimeError:
        assert fails
    guider = DualModelGuider.execute(other, FAMILY.positive, 4.0, patched, FAMILY.negative).args[0]
    with pytest.raises(ValueError, match=f"{name} cannot act on a guider's second model"):
        tiny_models.sample(guider, START[:1], SIGMAS)
