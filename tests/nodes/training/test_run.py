"""Steps of a training: what they compute, against slow versions; and that nothing of it stays on the model."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from typing import Any

import comfy.model_management
import pytest
import tiny_models
import torch
from semantic_steering.nodes.host.lora.fitting import fit
from semantic_steering.nodes.host.training.asking import Asked
from semantic_steering.nodes.host.training.run import Diverged, TooLittleMemory, Training
from training_runs import (
    ALPHA,
    BATCH,
    GUIDANCE,
    NEGATIVE,
    PLUS,
    RANK,
    TARGET,
    Listening,
    asked_by,
    estimate,
    same,
    training,
    with_slider,
)


def loaded() -> Any:
    """A MODEL as a loader node leaves it."""
    with torch.inference_mode():
        return tiny_models.unet_model()


@pytest.fixture
def model() -> Any:
    return loaded()


def bits(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.model.state_dict().items()}


def by_hand(
    model: Any, conds: dict, name: str, x: torch.Tensor, sigma: torch.Tensor, plus: Any, minus: Any
) -> torch.Tensor:
    """Equation 8 with both signs, of one text, element by element. plus, minus: MODELs with the slider at 1 and −1."""
    own = estimate(model, x, sigma, conds[name])
    poles = [key for key in conds if key.startswith("plus")]
    direction = sum(
        estimate(model, x, sigma, conds[key]) - estimate(model, x, sigma, conds[key.replace("plus", "minus")])
        for key in poles
    ) / len(poles)
    errors = []
    for sign, carrying in ((1.0, plus), (-1.0, minus)):
        goal = own + sign * GUIDANCE * direction
        for i in range(len(x)):
            scaled = goal[i] * own[i].double().norm() / goal[i].double().norm()
            errors.append((estimate(carrying, x, sigma, conds[name])[i] - scaled).square().mean())
    return torch.stack(errors).mean()


@pytest.mark.parametrize("preserved", [1, 3])
@pytest.mark.parametrize("steps", [0, 4])
def test_the_loss_is_equation_8_at_both_signs_of_every_text(model, preserved, steps):
    conds = {"target": TARGET}
    conds |= {f"plus {i}": tiny_models.unet_cond(10 + i) for i in range(preserved)}
    conds |= {f"minus {i}": tiny_models.unet_cond(20 + i) for i in range(preserved)}
    run = training(model, conds)
    run.run(steps)
    rows = run.objective.bank.drawn(torch.Generator().manual_seed(5), BATCH)
    tensors = run.factors.tensors()
    x, sigma = run.objective.bank.x[rows], run.objective.bank.sigma[rows]
    sides = with_slider(model, tensors, 1.0), with_slider(model, tensors, -1.0)
    for which, name in enumerate(conds):
        asked_for = torch.full((BATCH,), which)
        found = float(asked_by(run, lambda asked, of=asked_for: run.objective.loss(asked, rows, of).detach()))
        assert found == pytest.approx(float(by_hand(model, conds, name, x, sigma, *sides)), rel=1e-4), name


@pytest.mark.parametrize("preserved", [1, 3])
def test_a_step_is_about_one_text_target_and_poles_a_third_each(model, preserved):
    conds = {"target": TARGET} | {f"{pole} {i}": PLUS for pole in ("plus", "minus") for i in range(preserved)}
    objective, listening, counts = training(model, conds).objective, Listening(), Counter()
    for seed in range(600):
        (question,) = listening.hears(objective, seed, 4)
        assert question.strengths.tolist() == [1.0] * 4 + [-1.0] * 4
        assert torch.equal(question.x[:4], question.x[4:])
        counts[question.name] += 1
    assert counts.keys() == conds.keys()
    for name in conds:
        share = 1 / 3 if name == "target" else 1 / 3 / preserved
        assert abs(counts[name] - 600 * share) < 4 * (600 * share) ** 0.5, name


def test_a_steps_gradient_is_that_of_the_loss(model):
    """By differences: the network has no way back of its own here."""
    run = training(model)
    run.run(3)

    def loss(asked: Asked) -> torch.Tensor:
        return run.objective.loss(asked, *run.objective.drawn(torch.Generator().manual_seed(5), BATCH))

    def gradients(asked: Asked) -> dict[str, torch.Tensor]:
        loss(asked).backward()
        return {name: value.grad.clone() for name, value in run.factors.parameters.items() if value.grad is not None}

    found = asked_by(run, gradients)
    assert found.keys() == run.factors.parameters.keys()
    start = {name: value.data.clone() for name, value in run.factors.parameters.items()}

    def at(shift: float, direction: dict[str, torch.Tensor]) -> float:
        for name, value in run.factors.parameters.items():
            value.data = start[name] + shift * direction[name]
        return float(asked_by(run, lambda asked: loss(asked).detach()))

    size = 2e-3
    random = {name: tiny_models.noise(*value.shape, seed=i) for i, (name, value) in enumerate(found.items())}
    for mixed in (0.0, 0.3):  # along the gradient, and to the side of it
        direction = {name: value / norm(found) + mixed * random[name] / norm(random) for name, value in found.items()}
        expected = sum(float((value * direction[name]).sum()) for name, value in found.items())
        assert (at(size, direction) - at(-size, direction)) / (2 * size) == pytest.approx(expected, rel=0.02)


def norm(values: dict[str, torch.Tensor]) -> float:
    return sum(float(value.double().square().sum()) for value in values.values()) ** 0.5


def test_a_step_is_adams(model):
    run = training(model)
    own = {name: torch.nn.Parameter(value.detach().clone()) for name, value in run.factors.parameters.items()}
    optimiser = torch.optim.Adam(own.values(), lr=run.learning_rate)
    for step in (1, 2):
        rng = torch.Generator().manual_seed(run.seed + 7919 * step)

        def gradients(asked: Asked, rng: torch.Generator = rng) -> None:
            run.objective.loss(asked, *run.objective.drawn(rng, BATCH)).backward()
            for name, value in run.factors.parameters.items():
                assert value.grad is not None
                own[name].grad = value.grad.clone()

        asked_by(run, gradients)
        optimiser.step()
        run.run(step)
        for name, value in run.factors.parameters.items():
            assert torch.equal(value, own[name]), name


def loss_everywhere(run: Training) -> float:
    """Of all states, whichever a step would draw."""
    drawn = run.objective.drawn(torch.Generator().manual_seed(0), len(run.states))
    return float(asked_by(run, lambda asked: run.objective.loss(asked, *drawn).detach()))


def test_it_learns_the_direction_and_the_model_is_what_it_was(model):
    before, state = bits(model), tiny_models.state_of(model)
    run = training(model)
    first = loss_everywhere(run)
    run.run(50)
    assert loss_everywhere(run) < first / 2
    assert tiny_models.state_of(model) == state
    assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())


def test_what_was_trained_is_what_the_loaders_make_of_it(model):
    """Ours takes all of it; the stock loader's weights give what the hooks gave."""
    run = training(model)
    run.run(8)
    tensors = run.factors.tensors()
    assert fit(model, None, tensors, "slider").matched == len(run.factors.layers)
    x, sigma = run.objective.bank.x[:2], run.objective.bank.sigma[:2]
    for strength in (1.0, -2.0):
        hooked = asked_by(
            run, lambda asked, s=strength: asked.trained(x, sigma, "target", torch.full((2,), s)).detach()
        )
        merged = estimate(with_slider(model, tensors, strength), x, sigma, TARGET)
        plain = estimate(model, x, sigma, TARGET)
        assert tiny_models.relative(hooked - plain, merged - plain) < 1e-3
        assert tiny_models.relative(hooked, plain) > 0.01


def test_an_untrained_slider_changes_nothing_and_frozen_is_the_model_itself(model):
    run = training(model)
    x, sigma = run.objective.bank.x[:2], run.objective.bank.sigma[:2]
    trained, frozen = asked_by(
        run,
        lambda asked: (
            asked.trained(x, sigma, "target", torch.ones(2)).detach(),
            asked.frozen(x, sigma, ["target"])[0],
        ),
    )
    assert torch.equal(trained, frozen)
    run.run(5)
    again = asked_by(run, lambda asked: asked.frozen(x, sigma, ["target"])[0])
    assert torch.equal(frozen, again)


def hooks_of(model: Any) -> int:
    return sum(len(module._forward_hooks) for module in model.model.modules())


@pytest.mark.parametrize("how", ["cancel", "memory", "error"])
@pytest.mark.parametrize("call", [1, 3, 6, 7])
def test_whatever_ends_it_the_model_is_untouched_and_the_last_good_step_stays(model, monkeypatch, how, call):
    before, state = bits(model), tiny_models.state_of(model)
    run = training(model)
    count = iter(range(1, 100))
    own = model.model.apply_model

    def failing(*args: Any, **kwargs: Any) -> Any:
        now = next(count)
        if how == "memory" and now >= call:  # however little a step asks for
            raise torch.OutOfMemoryError("made up")
        if now == call:
            if how == "error":
                raise RuntimeError("made up")
            comfy.model_management.interrupt_current_processing()
        return own(*args, **kwargs)

    monkeypatch.setattr(model.model, "apply_model", failing)
    expected = {
        "cancel": comfy.model_management.InterruptProcessingException, "memory": TooLittleMemory, "error": RuntimeError,
    }  # fmt: skip
    with pytest.raises(expected[how]):
        run.run(20)
    monkeypatch.undo()
    done = len(run.losses)
    assert done == (call - 1) // (BATCH + 1)  # evaluations of a step: its states' targets, and both signs
    assert not comfy.model_management.in_training
    assert hooks_of(model) == 0
    assert tiny_models.state_of(model) == state
    assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())
    assert all(value.grad is None for value in run.factors.parameters.values())
    whole = training(loaded())
    whole.run(done)
    for name, value in whole.factors.parameters.items():
        assert torch.equal(value, run.factors.parameters[name])


def test_nothing_of_it_lives_on_when_it_is_dropped(model):
    run = training(model)
    run.run(3)
    left = [weakref.ref(value) for value in run.factors.parameters.values()]
    del run
    gc.collect()
    assert not any(reference() is not None for reference in left)


def test_the_next_run_of_the_model_has_the_same_bits(model):
    start = tiny_models.noise(1, 4, 8, 8)
    with torch.inference_mode():
        plain = tiny_models.sample_cfg(model, TARGET, NEGATIVE, start=start)
        training(model).run(3)
        assert torch.equal(tiny_models.sample_cfg(model, TARGET, NEGATIVE, start=start), plain)


def test_in_inference_mode_as_a_node_runs_it_is_the_same(model):
    outside = training(model)
    outside.run(4)
    with torch.inference_mode():
        inside = training(loaded())
        inside.run(4)
    same(inside, outside)


def test_a_loss_that_is_no_number_says_the_step_and_leaves_the_last_good_one(model):
    run = training(model, rate=1e-2)
    run.run(2)
    good = run.factors.tensors()
    own = run.objective.loss
    run.objective.loss = lambda *args: own(*args) * float("nan")  # type: ignore[method-assign]
    with pytest.raises(Diverged, match=r"step 3 is no number: lower learning_rate \(0.01 now"):
        run.run(4)
    for name, value in run.factors.tensors().items():
        assert torch.equal(value, good[name])


def test_a_gradient_that_is_no_number_leaves_the_last_good_step(model):
    """Of a loss that is one."""
    run = training(model)
    run.run(2)
    good = run.factors.tensors()
    own = run.objective.loss

    def zero_of_no_slope(*args: Any) -> torch.Tensor:
        found = own(*args)
        return (found - found.detach()).sqrt()

    run.objective.loss = zero_of_no_slope  # type: ignore[method-assign]
    with pytest.raises(Diverged, match="the gradient of step 3 is no number: lower"):
        run.run(4)
    for name, value in run.factors.tensors().items():
        assert torch.equal(value, good[name])


def test_what_a_step_costs(model):
    """A state's targets are asked once, in one forward; both signs of a step are one."""
    calls = tiny_models.recorded(model)
    run = training(calls.model)
    before = len(calls.batches)
    run.run(1)
    assert calls.batches[before:] == [3] * BATCH + [2 * BATCH]  # target and both poles of each; both signs of all
    before = len(calls.batches)
    again = torch.Generator().manual_seed(run.seed + 7919)
    asked_by(run, lambda asked: run.objective.loss(asked, *run.objective.drawn(again, BATCH)).detach())
    assert calls.batches[before:] == [2 * BATCH]


def test_in_half_precision_the_factors_are_float32(model):
    with torch.inference_mode():
        half = tiny_models.unet_model()
        half.model.diffusion_model.to(torch.bfloat16)
        half.model.diffusion_model.dtype = torch.bfloat16
    run = training(half)
    first = loss_everywhere(run)
    run.run(30)
    assert loss_everywhere(run) < first / 2
    assert all(value.dtype is torch.float32 for value in run.factors.parameters.values())
    assert all(value.dtype is torch.bfloat16 for value in half.model.diffusion_model.parameters())


def test_rank_and_alpha_are_those_asked_for(model):
    tensors = training(model, rank=3).factors.tensors()
    for name, value in tensors.items():
        if name.endswith("lora_down.weight"):
            assert len(value) == 3
        elif name.endswith("lora_up.weight"):
            assert value.shape[1] == 3
            assert not value.any()
        else:
            assert float(value) == ALPHA
    assert RANK != 3


def test_attention_without_a_way_back_is_not_used(model):
    """SageAttention and its like, from the host's own flag or as another pack's patch of the MODEL."""
    plain = training(model)
    plain.run(2)
    called = []

    def sage(function: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        called.append(1)
        return function(*args, **kwargs).detach()

    patched = model.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = sage
    run = training(patched)
    called.clear()
    run.run(2)
    assert not called
    assert run.losses == pytest.approx(plain.losses, rel=1e-4)
    assert patched.model_options["transformer_options"]["optimized_attention_override"] is sage
