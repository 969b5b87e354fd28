"""What steering costs: one batched forward a step, nothing outside a window, and memory asked for accordingly."""

from __future__ import annotations

import math

import pytest
import tiny_models
import torch

POSITIVE, NEGATIVE = tiny_models.stub_cond(1), tiny_models.stub_cond(2)
CONCEPTS = [tiny_models.stub_cond(10 + i) for i in range(4)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_negative_positive_and_concepts_are_one_call(count, batch):
    calls = tiny_models.recorded(tiny_models.stub_model())
    model = tiny_models.steer(calls.model, *(tiny_models.concept(c) for c in CONCEPTS[:count]), momentum=0.1)
    tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, start=tiny_models.noise(batch, *tiny_models.SIZE))
    assert calls.batches == [batch * (2 + count)] * 5
    for call in calls.seen:
        assert sorted(call.conds) == list(range(2 + count))


def test_positive_stays_at_0_and_negative_at_1():
    calls = tiny_models.recorded(tiny_models.stub_model())
    tiny_models.sample_cfg(tiny_models.steer(calls.model, tiny_models.concept(CONCEPTS[0])), POSITIVE, NEGATIVE)
    for call in calls.seen:
        assert (call.context[call.conds.index(0)] == POSITIVE[0][0][0]).all()
        assert (call.context[call.conds.index(1)] == NEGATIVE[0][0][0]).all()
        assert (call.context[call.conds.index(2)] == CONCEPTS[0][0][0][0]).all()


@pytest.mark.parametrize(("momentum", "expected"), [(0.0, [2, 2, 3, 3, 2]), (0.1, [3, 3, 3, 3, 2])])
def test_steps_outside_the_window_cost_nothing_unless_momentum_is_built(momentum, expected):
    calls = tiny_models.recorded(tiny_models.stub_model())
    sigmas = tiny_models.schedule(calls.model)
    model = tiny_models.steer(calls.model, tiny_models.concept(CONCEPTS[0], start=0.4, end=0.9), momentum=momentum)
    tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, sigmas=sigmas)
    assert calls.batches == expected


@pytest.mark.parametrize(
    ("levels", "expected"), [([10.0, 3.0, 1.0, 0.0], {2}), ([10.0, 3.0, 1.0], {3})], ids=["whole", "split"]
)
def test_a_window_below_the_last_evaluation_costs_nothing_with_momentum_either(levels, expected):
    """σ = 0 is never evaluated. A part of a schedule may be gone on with, where the momentum counts."""
    calls = tiny_models.recorded(tiny_models.stub_model())
    late = tiny_models.concept(CONCEPTS[0], start=0.8)  # from σ = 0.4 on
    steered = tiny_models.steer(calls.model, late, momentum=0.5)
    tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, sigmas=torch.tensor(levels))
    assert set(calls.batches) == expected


@pytest.mark.parametrize(("base", "batch"), [("auto", 2), ("positive", 2), ("negative", 3)])
def test_at_cfg_1_the_negative_is_evaluated_only_as_a_base(base, batch):
    calls = tiny_models.recorded(tiny_models.stub_model())
    tiny_models.sample_cfg(
        tiny_models.steer(calls.model, tiny_models.concept(CONCEPTS[0]), base=base), POSITIVE, NEGATIVE, cfg=1.0
    )
    assert calls.batches == [batch] * 5


def test_two_stacked_patches_are_still_one_call():
    calls = tiny_models.recorded(tiny_models.stub_model())
    model = tiny_models.steer(
        tiny_models.steer(calls.model, tiny_models.concept(CONCEPTS[0])), tiny_models.concept(CONCEPTS[1])
    )
    tiny_models.sample_cfg(model, POSITIVE, NEGATIVE)
    assert calls.batches == [4] * 5


def memory_batches(model, monkeypatch, negative=NEGATIVE, batch=1):
    """The batch sizes that the host asks memory for before it loads the model."""
    asked = []
    original = model.model.memory_required

    def note(input_shape, cond_shapes=None):
        asked.append(input_shape[0])
        return original(input_shape, cond_shapes=cond_shapes or {})

    monkeypatch.setattr(model.model, "memory_required", note)
    tiny_models.sample_cfg(model, POSITIVE, negative, start=tiny_models.noise(batch, *tiny_models.SIZE))
    return asked[0]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_the_memory_estimate_counts_the_concepts(count, batch, monkeypatch):
    model = tiny_models.steer(tiny_models.stub_model(), *(tiny_models.concept(c) for c in CONCEPTS[:count]))
    asked = memory_batches(model, monkeypatch, batch=batch)
    assert asked == 2 * math.ceil(batch * (2 + count) / 2)  # the host doubles what it is given
    assert asked >= batch * (2 + count)


def test_the_memory_estimate_counts_one_of_the_parts_for_different_times(monkeypatch):
    scheduled = [
        *tiny_models.stub_cond(2, start_percent=0.0, end_percent=0.5),
        *tiny_models.stub_cond(3, start_percent=0.5, end_percent=1.0),
    ]
    model = tiny_models.steer(tiny_models.stub_model(), tiny_models.concept(CONCEPTS[0]))
    assert memory_batches(model, monkeypatch, negative=scheduled) == 4


def test_the_memory_estimate_counts_an_extra_copy_of_the_base(monkeypatch):
    limited = tiny_models.stub_cond(2, start_percent=0.0, end_percent=0.5)
    model = tiny_models.steer(tiny_models.stub_model(), tiny_models.concept(CONCEPTS[0]))
    assert memory_batches(model, monkeypatch, negative=limited) == 4
