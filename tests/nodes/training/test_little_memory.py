"""Steps that are computed in parts, with blocks recomputed, or in half precision: the same gradient."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_models
import torch
from semantic_steering.nodes.host.training.run import FLOAT16_SCALE, Training
from training_runs import training


@pytest.fixture
def model() -> Any:
    with torch.inference_mode():  # as a loader node leaves it
        return tiny_models.unet_model()


def norm(values: dict[str, torch.Tensor]) -> float:
    return sum(float(value.double().square().sum()) for value in values.values()) ** 0.5


def gradients_of(run: Training) -> dict[str, torch.Tensor]:
    """Of the next step, with what is behind the network's shape left out."""
    found: dict[str, torch.Tensor] = {}

    def end() -> None:
        found.update({name: value.grad.clone() for name, value in run.factors.parameters.items()
                      if value.grad is not None})  # fmt: skip
        raise KeyboardInterrupt

    run.optimiser.step = end  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.run(len(run.losses) + 1)
    return found


@pytest.mark.parametrize("way", [{"small": True}, {"at_once": 1}, {"at_once": 1, "small": True}, {"scale": 4096.0}])
def test_a_step_that_needs_less_memory_has_the_same_gradient(model, way):
    def begun() -> Training:
        run = training(model, batch=4)
        run.run(3)
        return run

    plain, other = begun(), begun()
    for name, value in way.items():
        setattr(other, name, value)
    expected, found = gradients_of(plain), gradients_of(other)
    assert found.keys() == expected.keys() == plain.factors.parameters.keys()
    difference = norm({name: found[name] - value for name, value in expected.items()})
    assert difference < 1e-4 * norm(expected)


def test_where_memory_runs_out_a_step_is_tried_with_less(model, monkeypatch):
    plain, run = training(model, batch=4), training(model, batch=4)
    plain.run(2)
    own, entries = model.model.apply_model, []

    def limited(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() and len(x) > 4:
            raise torch.OutOfMemoryError("made up")
        entries.append(len(x))
        return own(x, *args, **kwargs)

    monkeypatch.setattr(model.model, "apply_model", limited)
    run.run(2)
    assert (run.at_once, run.small) == (2, False)
    assert run.losses == pytest.approx(plain.losses, rel=1e-5)
    assert max(entries) <= 4


def test_blocks_have_their_own_forward_again(model):
    before = {module: module.__dict__.get("forward") for module in model.model.modules()}
    run = training(model)
    run.small = True
    run.run(1)
    assert {module: module.__dict__.get("forward") for module in model.model.modules()} == before


def test_an_overflow_in_half_precision_halves_the_scale(model, monkeypatch):
    """And the step is done all the same."""
    run, plain = training(model), training(model)
    run.scale = FLOAT16_SCALE
    own = run.objective.loss

    class Overflowing(torch.autograd.Function):
        """The way back of a type whose largest number is 65504."""

        @staticmethod
        def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return gradient if float(gradient) < 5000 else gradient * float("inf")

    monkeypatch.setattr(run.objective, "loss", lambda *args: Overflowing.apply(own(*args)))
    run.run(2)
    plain.run(2)
    assert run.scale == 4096
    assert run.losses == pytest.approx(plain.losses, rel=1e-4)
