"""Sliders from pairs of pictures, against equation 9 written out; and what of a pair is learnt, and what not."""

from __future__ import annotations

import folder_paths
import pytest
import tiny_models
import torch
from comfy.model_base import ModelType
from semantic_steering.guidance_core import squared_error
from semantic_steering.nodes.host.training import noised, pairs
from semantic_steering.nodes.host.training.kept import Kept
from semantic_steering.nodes.host.training.pairs import PairObjective
from training_runs import SHAPE, TARGET, Listening, asked_by, begun, estimate, goes_on, same, with_slider

KINDS = [ModelType.EPS, ModelType.V_PREDICTION, ModelType.FLOW]
STRENGTHS = (1.0, -2.0, 0.5)
BEFORE, AFTER = tiny_models.noise(3, *SHAPE, seed=1), tiny_models.noise(3, *SHAPE, seed=2)
RANGE = (0.1, 0.9)
CONDS = {"target": TARGET}


def objective(model, before=BEFORE, after=AFTER, strengths=STRENGTHS, start=RANGE[0], end=RANGE[1]) -> PairObjective:
    return PairObjective(model.get_model_object("model_sampling"), before, after, strengths, start, end)


def training(model, count=2, seed=7, **options):
    return begun(model, CONDS, objective(model, **options), batch=count, seed=seed)


def loss_of(run, seed=5, count=2):
    """At draws that are the same at every call, and its gradients, one after the other."""

    def backward(asked):
        loss = run.objective.loss(asked, *run.objective.drawn(torch.Generator().manual_seed(seed), count))
        loss.backward()
        gradients = torch.cat([value.grad.flatten() for value in run.factors.parameters.values()])
        run.optimiser.zero_grad(set_to_none=True)
        return float(loss.detach()), gradients

    return asked_by(run, backward)


def by_hand(model, kind, tensors, seed, count) -> float:
    """‖(r₊ − r₋)/2‖²/N, draw by draw and element by element, with the stock loader's weights at ±s."""
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randperm(3, generator=rng).tolist() * 2
    shares = [(i + number) / count for i, number in enumerate(torch.rand(count, generator=rng).tolist())]
    noise = torch.randn(count, *SHAPE, generator=rng)
    total = 0.0
    for i in range(count):
        percent = RANGE[0] + (RANGE[1] - RANGE[0]) * shares[i]
        sigma = model.get_model_object("model_sampling").percent_to_sigma(percent)
        residuals = []
        for sign, picture in ((1, AFTER[rows[i]]), (-1, BEFORE[rows[i]])):
            flow = kind is ModelType.FLOW
            x = (1 - sigma) * picture + sigma * noise[i] if flow else picture + sigma * noise[i]
            goal = noise[i] - picture if flow else noise[i]
            carrying = with_slider(model, tensors, sign * STRENGTHS[rows[i]])
            residuals.append(estimate(carrying, x[None], torch.tensor([sigma]), TARGET)[0] - goal)
        plus, minus = (residual.flatten().tolist() for residual in residuals)
        total += sum(((p - m) / 2) ** 2 for p, m in zip(plus, minus, strict=True)) / len(plus)
    return total / count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("steps", "count"), [(0, 2), (4, 2), (4, 4)])
def test_the_loss_is_equation_9_without_the_common_part(kind, steps, count):
    model = tiny_models.unet_model(kind)
    run = training(model, count)
    run.run(steps)
    found, _ = loss_of(run, count=count)
    assert found == pytest.approx(by_hand(model, kind, run.factors.tensors(), 5, count), rel=1e-4)


def equation_9(after, before, after_target, before_target):
    return squared_error(after, after_target) + squared_error(before, before_target)


@pytest.mark.parametrize("whole", [False, True])
def test_what_both_sides_have_in_common_is_no_part_of_the_loss_or_its_gradient(monkeypatch, whole):
    """Goals that are both moved by the same, a look that the model lacks: equation 9 whole would learn it."""
    if whole:
        monkeypatch.setattr(pairs, "pair_loss", equation_9)
    run = training(tiny_models.unet_model())
    run.run(4)
    loss, gradients = loss_of(run)
    own, common = noised.noise_estimate, tiny_models.noise(1, *SHAPE, seed=9)
    monkeypatch.setattr(noised, "noise_estimate", lambda *args: own(*args) + common)
    moved_loss, moved = loss_of(run)
    assert (moved_loss == pytest.approx(loss, rel=1e-4)) is not whole
    differ = tiny_models.relative(moved, gradients)
    assert differ > 0.1 if whole else differ < 1e-3


def test_what_differs_is():
    run = training(tiny_models.unet_model())
    run.run(4)
    loss, _ = loss_of(run)
    run.objective.after = run.objective.after + 0.5
    assert loss_of(run)[0] != pytest.approx(loss, rel=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_has_one_noise_at_one_level_and_its_strength_on_either_side(kind):
    """Told apart by their pictures: a pair's sides differ by its number."""
    numbers = torch.arange(1.0, 6.0)
    before = tiny_models.noise(5, *SHAPE)
    after = before + numbers[:, None, None, None]
    strengths = [1.0, -0.5, 2.0, 3.0, -4.0]
    made = objective(tiny_models.unet_model(kind), before, after, strengths, 0.0, 0.9)
    seen = set()
    for seed in range(20):
        (question,) = Listening().hears(made, seed, 3)
        assert question.name == "target"
        assert question.x.shape == (6, *SHAPE)
        (plus, minus), (sigma, same) = question.x.chunk(2), question.sigma.chunk(2)
        assert torch.equal(sigma, same)
        share = (1 - sigma if kind is ModelType.FLOW else torch.ones(3))[:, None, None, None]
        found = ((plus - minus) / share).mean((1, 2, 3))
        rows = found.round().long() - 1
        torch.testing.assert_close(plus - minus, share * numbers[rows][:, None, None, None].expand_as(plus),
                                   rtol=1e-4, atol=1e-4)  # fmt: skip
        wanted = torch.tensor(strengths)[rows]
        assert torch.equal(question.strengths, torch.cat([wanted, -wanted]))
        assert len(set(rows.tolist())) == 3
        seen |= set(rows.tolist())
    assert seen == set(range(5))


def test_draws_of_a_step_have_noises_of_their_own():
    zeros = torch.zeros(2, *SHAPE)
    made = objective(tiny_models.unet_model(), zeros, zeros + 1, (1.0, 1.0))
    (first,), (second,) = (Listening().hears(made, seed, 2) for seed in (0, 1))
    noises = [first.x[2] / first.sigma[2], first.x[3] / first.sigma[3], second.x[2] / second.sigma[2]]
    for i in range(3):
        assert float(noises[i].std()) == pytest.approx(1, abs=0.15)
        assert abs(float((noises[i] * noises[i - 1]).mean())) < 0.2


def test_a_step_in_parts_is_the_step():
    run = training(tiny_models.unet_model())
    run.run(2)
    drawn = run.objective.drawn(torch.Generator().manual_seed(5), 4)
    parts = zip(*(each.split(1) for each in drawn), strict=True)
    losses = asked_by(run, lambda asked: [run.objective.loss(asked, *part).detach() for part in parts])
    assert float(sum(losses)) / 4 == pytest.approx(loss_of(run, count=4)[0], rel=1e-5)


def test_a_step_is_one_question():
    calls = tiny_models.recorded(tiny_models.unet_model())
    run = training(calls.model, 3)
    run.run(2)
    assert calls.batches == [6, 6]


def test_it_learns_the_difference():
    """Of pairs that differ by one and the same thing, at the levels where a network can see it."""
    model = tiny_models.unet_model()
    after = BEFORE + tiny_models.noise(1, *SHAPE, seed=3)
    run = training(model, 3, after=after, strengths=(1.0, 1.0, 1.0))
    first = sum(loss_of(run, seed, 3)[0] for seed in range(4))
    run.run(40)
    last = sum(loss_of(run, seed, 3)[0] for seed in range(4))
    assert last < 0.9 * first


def test_in_inference_mode_as_a_node_runs_it_is_the_same():
    outside = training(tiny_models.unet_model())
    outside.run(3)
    with torch.inference_mode():
        given = {"before": BEFORE.clone(), "after": AFTER.clone(), "strengths": torch.tensor(STRENGTHS)}
        inside = training(tiny_models.unet_model(), **given)
        inside.run(3)
    same(inside, outside)


def kept_of(run) -> Kept:
    return Kept.of(run, "smile", {})


def test_going_on_is_bit_equal_to_never_having_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    goes_on(lambda: training(tiny_models.unet_model()), kept_of)


def test_other_pictures_and_other_strengths_are_another_training():
    model = tiny_models.unet_model()
    others = ({}, {"before": BEFORE + 1}, {"after": AFTER + 1}, {"strengths": (1.0, 2.0, 0.5)}, {"seed": 8})
    assert len({kept_of(training(model, **options)).digest for options in others}) == len(others)
    assert kept_of(training(model)).digest == kept_of(training(model)).digest


def test_what_does_not_go_together_is_refused_by_its_names():
    model = tiny_models.unet_model()
    with pytest.raises(ValueError, match="before is 2x4x8x8, after is 3x4x8x8; connect as many pictures of the same"):
        objective(model, before=BEFORE[:2])
    with pytest.raises(ValueError, match="strengths has 2 numbers for 3 pairs; give one for each pair"):
        objective(model, strengths=(1.0, 2.0))
    for strength in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"strengths is 1, .*, 1; each must be a number other than 0"):
            objective(model, strengths=(1.0, strength, 1.0))
    with pytest.raises(ValueError, match=r"start_percent is 0\.9 and end_percent 0\.1"):
        objective(model, start=0.9, end=0.1)
