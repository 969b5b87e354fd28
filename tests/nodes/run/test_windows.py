"""Windows on the schedules that people use: every step belongs to exactly one of two windows that meet."""

from __future__ import annotations

import comfy.samplers
import pytest
import tiny_models
import torch
from comfy.model_base import ModelType
from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow, ModelSamplingFlux
from semantic_steering.guidance_core import Phase, Window

SCHEDULERS = ["simple", "normal", "sgm_uniform", "beta", "ddim_uniform", "karras", "kl_optimal"]
STEPS = [4, 8, 10, 20, 25, 28, 50]


def samplings() -> dict:
    flow = tiny_models.stub_model(ModelType.FLOW)
    models = {
        "eps": tiny_models.stub_model(),
        "flow": flow,
        "AuraFlow": ModelSamplingAuraFlow().patch_aura(flow, 1.73)[0],
        "shift 8": ModelSamplingAuraFlow().patch_aura(flow, 8.0)[0],
        "Flux": ModelSamplingFlux().patch(flow, 1.15, 0.5, 1024, 1024)[0],
    }
    return {name: model.get_model_object("model_sampling") for name, model in models.items()}


SAMPLINGS = samplings()


def two_windows(sampling, edge: float) -> list:
    """Those before and after a percent, in noise levels."""
    return [Window(*ends).in_sigmas(sampling.percent_to_sigma) for ends in ((0.0, edge), (edge, 1.0))]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("name", SAMPLINGS)
def test_windows_that_meet_share_no_step_and_miss_none(name, scheduler):
    sampling = SAMPLINGS[name]
    for steps in STEPS:
        levels = [float(level) for level in comfy.samplers.calculate_sigmas(sampling, scheduler, steps)]
        for k in range(steps + 1):
            windows = two_windows(sampling, k / steps)
            for level in levels:
                inside = sum(window.phase(level) is Phase.INSIDE for window in windows)
                assert inside == (level > 0), (steps, k, level, windows)


@pytest.mark.parametrize("name", SAMPLINGS)
def test_a_level_that_is_an_edge_but_for_rounding_belongs_to_what_begins_there(name):
    """Levels are float32, and so are the edges that the host gives: neither is the exact one."""
    sampling, met = SAMPLINGS[name], 0
    for scheduler in SCHEDULERS:
        for steps in STEPS:
            levels = comfy.samplers.calculate_sigmas(sampling, scheduler, steps).double().tolist()
            for k in range(1, steps):
                edge = float(sampling.percent_to_sigma(k / steps))
                for level in (level for level in levels if abs(level - edge) <= 1e-5 * edge):
                    met += 1
                    ends, begins = two_windows(sampling, k / steps)
                    assert ends.phase(level) is Phase.AFTER
                    assert begins.phase(level) is Phase.INSIDE
    assert met > 10


def test_the_directions_of_a_rising_schedule_are_refreshed_too():
    """FlipSigmas: with refresh 2 a concept is evaluated in every other step, not once."""
    model, seen = tiny_models.unet_model(), {}
    for refresh in (1, 2):
        calls = tiny_models.recorded(model)
        steered = tiny_models.steer(calls.model, tiny_models.concept(tiny_models.unet_cond(3)), refresh=refresh)
        rising = torch.tensor([0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 14.0])
        tiny_models.sample_cfg(
            steered, tiny_models.unet_cond(1), tiny_models.unet_cond(2), 4.0, tiny_models.noise(1, 4, 8, 8), rising
        )
        seen[refresh] = calls.batches
    assert seen == {1: [3] * 6, 2: [3, 2, 3, 2, 3, 2]}


def test_momentum_is_refused_for_a_sampler_that_takes_steps_back():
    """dpm_adaptive: rejected steps would move it too. Without momentum it is steered like any other."""
    model = tiny_models.stub_model()
    target, texts = tiny_models.concept(tiny_models.stub_cond(3)), (tiny_models.stub_cond(1), tiny_models.stub_cond(2))
    plain = tiny_models.sample_cfg(model, *texts, sampler="dpm_adaptive")
    found = tiny_models.sample_cfg(tiny_models.steer(model, target), *texts, sampler="dpm_adaptive")
    assert tiny_models.relative(found, plain) > 0.01
    with pytest.raises(ValueError, match=r"momentum_scale is 0\.3 and .* dpm_adaptive.*Set momentum_scale to 0"):
        tiny_models.sample_cfg(tiny_models.steer(model, target, momentum=0.3), *texts, sampler="dpm_adaptive")
