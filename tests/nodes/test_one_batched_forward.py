"""What steering costs: one batched forward a step, nothing outside a window, and memory asked for accordingly."""

from __future__ import annotations

import math

import pytest
import tiny

POSITIVE, NEGATIVE = tiny.stub_cond(1), tiny.stub_cond(2)
CONCEPTS = [tiny.stub_cond(10 + i) for i in range(4)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_negative_positive_and_concepts_are_one_call(count, batch):
    calls = tiny.recorded(tiny.stub_model())
    model = tiny.steer(calls.model, *(tiny.concept(c) for c in CONCEPTS[:count]), momentum=0.1)
    tiny.sample_cfg(model, POSITIVE, NEGATIVE, start=tiny.noise(batch, *tiny.SIZE))
    assert calls.batches == [batch * (2 + count)] * 5
    for call in calls.seen:
        assert sorted(call.conds) == list(range(2 + count))


def test_positive_stays_at_0_and_negative_at_1():
    calls = tiny.recorded(tiny.stub_model())
    tiny.sample_cfg(tiny.steer(calls.model, tiny.concept(CONCEPTS[0])), POSITIVE, NEGATIVE)
    for call in calls.seen:
        assert (call.context[call.conds.index(0)] == POSITIVE[0][0][0]).all()
        assert (call.context[call.conds.index(1)] == NEGATIVE[0][0][0]).all()
        assert (call.context[call.conds.index(2)] == CONCEPTS[0][0][0][0]).all()


@pytest.mark.parametrize(("momentum", "expected"), [(0.0, [2, 2, 3, 3, 2]), (0.1, [3, 3, 3, 3, 2])])
def test_steps_outside_the_window_cost_nothing_unless_momentum_is_built(momentum, expected):
    calls = tiny.recorded(tiny.stub_model())
    sigmas = tiny.schedule(calls.model)
    model = tiny.steer(calls.model, tiny.concept(CONCEPTS[0], start=0.4, end=0.9), momentum=momentum)
    tiny.sample_cfg(model, POSITIVE, NEGATIVE, sigmas=sigmas)
    assert calls.batches == expected


@pytest.mark.parametrize(("base", "batch"), [("auto", 2), ("positive", 2), ("negative", 3)])
def test_at_cfg_1_the_negative_is_evaluated_only_as_a_base(base, batch):
    calls = tiny.recorded(tiny.stub_model())
    tiny.sample_cfg(tiny.steer(calls.model, tiny.concept(CONCEPTS[0]), base=base), POSITIVE, NEGATIVE, cfg=1.0)
    assert calls.batches == [batch] * 5


def test_two_stacked_patches_are_still_one_call():
    calls = tiny.recorded(tiny.stub_model())
    model = tiny.steer(tiny.steer(calls.model, tiny.concept(CONCEPTS[0])), tiny.concept(CONCEPTS[1]))
    tiny.sample_cfg(model, POSITIVE, NEGATIVE)
    assert calls.batches == [4] * 5


def memory_batches(model, monkeypatch, negative=NEGATIVE, batch=1):
    """The batch sizes that the host asks memory for before it loads the model."""
    asked = []
    original = model.model.memory_required

    def note(input_shape, cond_shapes=None):
        asked.append(input_shape[0])
        return original(input_shape, cond_shapes=cond_shapes or {})

    monkeypatch.setattr(model.model, "memory_required", note)
    tiny.sample_cfg(model, POSITIVE, negative, start=tiny.noise(batch, *tiny.SIZE))
    return asked[0]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_the_memory_estimate_counts_the_concepts(count, batch, monkeypatch):
    model = tiny.steer(tiny.stub_model(), *(tiny.concept(c) for c in CONCEPTS[:count]))
    asked = memory_batches(model, monkeypatch, batch=batch)
    assert asked == 2 * math.ceil(batch * (2 + count) / 2)  # the host doubles what it is given
    assert asked >= batch * (2 + count)


def test_the_memory_estimate_counts_an_extra_copy_of_the_base(monkeypatch):
    limited = tiny.stub_cond(2, start_percent=0.0, end_percent=0.5)
    model = tiny.steer(tiny.stub_model(), tiny.concept(CONCEPTS[0]))
    assert memory_batches(model, monkeypatch, negative=limited) == 4
