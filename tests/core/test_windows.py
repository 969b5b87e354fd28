"""Windows: when an effect acts, and which windows are refused."""

import math

import pytest

from guidance_core import Phase, SigmaWindow, Window, edges_crossed, step_of


@pytest.mark.parametrize(
    ("sigma", "phase"),
    [
        (14.0, Phase.BEFORE),
        (10.01, Phase.BEFORE),
        (10.0009, Phase.INSIDE),  # the sampler's σ may lie above the schedule's by rounding
        (10.0, Phase.INSIDE),
        (5.0, Phase.INSIDE),
        (2.0003, Phase.INSIDE),
        (2.0001, Phase.AFTER),  # the edge but for rounding belongs to the window that begins there
        (2.0, Phase.AFTER),
        (1.0, Phase.AFTER),
    ],
)
def test_a_window_holds_from_its_start_down_to_just_above_its_end(sigma, phase):
    assert SigmaWindow(10.0, 2.0).phase(sigma) is phase


def test_a_window_to_the_very_end_holds_at_every_positive_level():
    assert SigmaWindow(10.0, 0.0).phase(1e-12) is Phase.INSIDE
    assert SigmaWindow(10.0, 0.0).phase(0.0) is Phase.AFTER


def test_a_window_whose_start_is_its_end_is_empty():
    assert Window(0.3, 0.3).empty
    assert not Window(0.3, 0.4).empty
    # also in noise levels: nothing is both at most the start and above the end
    assert all(SigmaWindow(3.0, 3.0).phase(sigma) is not Phase.INSIDE for sigma in (1.0, 2.999, 3.0, 3.1, 9.0))


def test_a_start_after_the_end_is_refused_with_both_values():
    with pytest.raises(ValueError, match=r"0\.6.*0\.5"):
        Window(0.6, 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.01, 1.01])
@pytest.mark.parametrize("name", ["start_percent", "end_percent"])
def test_values_outside_0_to_1_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        Window(**{name: value})


def test_windows_intersect():
    assert Window(0.2, 0.8).intersect(Window(0.5, 1.0)) == Window(0.5, 0.8)
    assert Window(0.0, 1.0).intersect(Window(0.1, 0.2)) == Window(0.1, 0.2)


def test_windows_that_do_not_meet_intersect_to_an_empty_one():
    assert Window(0.0, 0.3).intersect(Window(0.5, 1.0)).empty
    assert Window(0.5, 1.0).intersect(Window(0.0, 0.3)).empty


@pytest.mark.parametrize(
    ("levels", "steps"),
    [
        ([14.0, 10.0, 5.0, 2.0, 0.0], 2),  # from 10 to 5 and from 5 to 2
        ([14.0, 10.0, 5.0], 1),  # ends inside: no step begins at the last level
        ([5.0, 3.0, 0.0], 2),
        ([1.0, 0.0], 0),
        ([5.0], 0),
        ([], 0),
    ],
)
def test_the_steps_of_a_window_are_those_that_begin_inside(levels, steps):
    assert SigmaWindow(10.0, 2.0).steps(levels) == steps


@pytest.mark.parametrize(
    ("first", "last", "edges"),
    [
        (14.0, 1.0, {10.0, 2.0}),
        (14.0, 5.0, {10.0}),
        (14.0, 10.0005, {10.0}),  # the last evaluation is the window's first, by rounding
        (14.0, 12.0, set()),  # the run ends before the window opens
        (10.0, 1.0, {2.0}),  # it is open from the start
        (5.0, 2.0, {2.0}),
        (5.0, 3.0, set()),
        (2.0, 1.0, set()),  # it was closed before the run began
        (1.0, 0.5, set()),
        (5.0, 5.0, set()),  # a run of one evaluation
    ],
)
def test_an_edge_counts_where_the_run_itself_crosses_it(first, last, edges):
    assert edges_crossed([SigmaWindow(10.0, 2.0)], first, last) == edges


def test_an_edge_that_windows_share_counts_once():
    windows = [SigmaWindow(10.0, 2.0), SigmaWindow(10.0, 5.0), SigmaWindow(5.0, 2.0), SigmaWindow(20.0, 15.0)]
    assert edges_crossed(windows, 14.0, 1.0) == {10.0, 5.0, 2.0}
    assert edges_crossed([], 14.0, 1.0) == set()


@pytest.mark.parametrize(
    ("sigma", "step"),
    [
        (10.0, 0),
        (10.0009, 0),
        (10.01, None),
        (9.0, 0),
        (6.0, 1),
        (5.9997, 1),
        (6.0005, 1),
        (6.01, 0),
        (0.5, 2),
        (0.0, 3),
    ],
)
def test_a_level_belongs_to_the_last_step_that_begins_at_or_above_it(sigma, step):
    assert step_of([10.0, 6.0, 3.0, 0.0], sigma) == step
