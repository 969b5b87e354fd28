"""Running again gives the same bits: after another run, an error or an interrupt, and the model is left as it was.

ComfyUI keeps a node's outputs between prompts, so the very same patched MODEL object runs many times.
"""

from __future__ import annotations

import comfy.model_management
import pytest
import tiny_models
import torch
from comfy.model_management import InterruptProcessingException

POSITIVE, NEGATIVE = tiny_models.unet_cond(1), tiny_models.unet_cond(2)
CONCEPTS = [
    tiny_models.concept(tiny_models.unet_cond(3), 2.0, 0.9, 0.2),
    tiny_models.concept(tiny_models.unet_cond(4), -1.0, 0.5, 0.4),
]
START = tiny_models.noise(1, 4, 8, 8, seed=1)


@pytest.fixture
def steered():
    return tiny_models.recorded(tiny_models.steer(tiny_models.unet_model(), *CONCEPTS, momentum=0.5, beta=0.6))


def run(calls, positive=POSITIVE, start=START, **options):
    """The result, which must have cost forward passes: nothing may come from an earlier run."""
    before = len(calls.seen)
    result = tiny_models.sample_cfg(calls.model, positive, NEGATIVE, start=start, **options)
    assert len(calls.seen) > before
    assert any(batch == 4 * len(start) for batch in calls.batches[before:])  # negative, positive, two concepts
    return result


def test_two_runs_of_one_patched_model_give_the_same_bits(steered):
    assert torch.equal(run(steered), run(steered))


def test_another_run_in_between_changes_nothing(steered):
    first = run(steered)
    other = run(steered, tiny_models.unet_cond(7), tiny_models.noise(2, 4, 8, 12, seed=9), sampler="heun")
    assert other.shape != first.shape
    assert torch.equal(run(steered), first)


def test_one_guider_object_can_run_twice(steered):
    """A guider node's output is kept too."""
    guider = tiny_models.cfg_guider(steered.model, POSITIVE, NEGATIVE, 4.0)
    sigmas = tiny_models.schedule(steered.model)
    results = [tiny_models.sample(guider, START, sigmas) for _ in range(2)]
    assert torch.equal(*results)
    assert torch.equal(results[0], run(steered))


@pytest.mark.parametrize("error", [RuntimeError, InterruptProcessingException])
@pytest.mark.parametrize("step", [0, 2, 4])
def test_after_an_error_in_the_middle_the_next_run_gives_the_same_bits(error, step, steered):
    first = run(steered)

    def stop(i, *_):
        if i == step:
            raise error

    with pytest.raises(error):
        run(steered, callback=stop)
    assert torch.equal(run(steered), first)


def test_after_the_hosts_own_interrupt_the_next_run_gives_the_same_bits(steered):
    first = run(steered)

    def press_stop(i, *_):
        if i == 2:
            comfy.model_management.interrupt_current_processing(True)
            comfy.model_management.throw_exception_if_processing_interrupted()

    with pytest.raises(InterruptProcessingException):
        run(steered, callback=press_stop)
    assert torch.equal(run(steered), first)


def test_after_an_error_inside_the_model_the_next_run_gives_the_same_bits(steered, monkeypatch):
    first = run(steered)
    network = steered.model.model.diffusion_model
    with monkeypatch.context() as patch:
        patch.setattr(network, "forward", tiny_models.out_of_memory_at(3, network.forward))
        with pytest.raises(torch.OutOfMemoryError):
            run(steered)
    assert torch.equal(run(steered), first)


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_leaves_nothing_on_the_model_or_the_guider(fails, steered):
    guider = tiny_models.cfg_guider(steered.model, POSITIVE, NEGATIVE, 4.0)
    before, weights = (
        tiny_models.state_of(steered.model),
        {k: v.clone() for k, v in steered.model.model.state_dict().items()},
    )

    def stop(i, *_):
        if fails and i == 2:
            raise InterruptProcessingException

    try:
        tiny_models.sample(guider, START, tiny_models.schedule(steered.model), callback=stop)
        assert not fails
    except InterruptProcessingException:
        assert fails
    assert tiny_models.state_of(steered.model) == before
    assert sorted(guider.original_conds) == ["negative", "positive"]
    assert guider.model_options is steered.model.model_options
    assert all(torch.equal(weights[k], v) for k, v in steered.model.model.state_dict().items())


def test_steering_a_model_leaves_the_original_unsteered():
    model = tiny_models.unet_model()
    before = tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, start=START)
    edited = tiny_models.sample_cfg(tiny_models.steer(model, *CONCEPTS), POSITIVE, NEGATIVE, start=START)
    assert not model.wrappers.get("outer_sample")
    assert not torch.equal(edited, before)
    assert torch.equal(tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, start=START), before)


def test_each_run_has_a_state_of_its_own():
    runs: list = []
    model = tiny_models.steer(tiny_models.unet_model(), *CONCEPTS, momentum=0.5, started=runs.append)
    for _ in range(2):
        tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, start=START)
    assert len(runs) == 2
    assert runs[0] is not runs[1]
    assert all(torch.equal(runs[0].nu[i], runs[1].nu[i]) for i in runs[0].nu)
    assert runs[0].nu
