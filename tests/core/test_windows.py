"""Windows: when an effect acts, and which windows are refused."""

import math

import pytest

from guidance_core import Phase, SigmaWindow, Window


@pytest.mark.parametrize(
    ("sigma", "phase"),
    [
        (14.0, Phase.BEFORE),
        (10.01, Phase.BEFORE),
        (10.0009, Phase.INSIDE),  # the sampler's σ may lie above the schedule's by rounding
        (10.0, Phase.INSIDE),
        (5.0, Phase.INSIDE),
        (2.0001, Phase.INSIDE),
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
