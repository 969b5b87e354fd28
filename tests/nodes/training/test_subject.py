"""Subjects, against DreamBooth's equation 2 written out; and what the class beside them costs and does."""

from __future__ import annotations

import comfy.sample
import folder_paths
import pytest
import tiny_models
import torch
from comfy.model_base import ModelType
from semantic_steering.nodes.host.training.bank import levels, walked
from semantic_steering.nodes.host.training.kept import Kept
from semantic_steering.nodes.host.training.prior import class_pictures
from semantic_steering.nodes.host.training.subject import Pictures, SubjectObjective, output
from training_runs import SHAPE, Listening, asked_by, begun, estimate, goes_on, same, with_slider

KINDS = [ModelType.EPS, ModelType.V_PREDICTION, ModelType.FLOW]
PRIORS = ["pictures", "output"]
CONDS = {"instance": tiny_models.unet_cond(1), "class": tiny_models.unet_cond(2)}
INSTANCE, CLASS = tiny_models.noise(3, *SHAPE, seed=1), tiny_models.noise(5, *SHAPE, seed=2)
RANGE = (0.1, 0.9)
WEIGHT = 0.7


def prior_of(model, kind):
    if kind == "pictures":
        return Pictures(model.get_model_object("model_sampling"), CLASS, *RANGE)
    bank = walked(model, CONDS["class"], torch.zeros(1, *SHAPE), *RANGE, 7, 2, trajectories=2)
    return output(bank)


def training(model, kind="pictures", weight=WEIGHT, count=2, seed=7, rate=1e-2, instance=INSTANCE):
    subject = Pictures(model.get_model_object("model_sampling"), instance, *RANGE)
    prior = prior_of(model, kind) if kind else None
    return begun(model, CONDS, SubjectObjective(subject, prior, weight), rate=rate, batch=count, seed=seed)


def loss_of(run, seed=5, count=2) -> float:
    drawn = run.objective.drawn(torch.Generator().manual_seed(seed), count)
    return float(asked_by(run, lambda asked: run.objective.loss(asked, *drawn).detach()))


def class_part(run) -> float:
    """Of the loss."""
    prior, whole = run.objective.prior, loss_of(run)
    run.objective.prior = None
    alone = loss_of(run)
    run.objective.prior = prior
    return whole - alone


def mean_square(found, goal) -> float:
    errors = [(f - g) ** 2 for f, g in zip(found.flatten().tolist(), goal.flatten().tolist(), strict=True)]
    return sum(errors) / len(errors)


def noised_by_hand(model, family, pictures, rng, count):
    """(x, sigma, goal) of every draw."""
    rows = torch.randperm(len(pictures), generator=rng).tolist()
    numbers = torch.rand(count, generator=rng).tolist()
    noise = torch.randn(count, *SHAPE, generator=rng)
    for i in range(count):
        percent = RANGE[0] + (RANGE[1] - RANGE[0]) * (i + numbers[i]) / count
        sigma, picture = model.get_model_object("model_sampling").percent_to_sigma(percent), pictures[rows[i]]
        if family is ModelType.FLOW:
            yield (1 - sigma) * picture + sigma * noise[i], sigma, noise[i] - picture
        else:
            yield picture + sigma * noise[i], sigma, noise[i]


def by_hand(model, family, kind, tensors, bank, seed, count) -> tuple[float, float]:
    """Equation 2's two parts, draw by draw and element by element, with the stock loader's weights at 1."""
    rng, carrying = torch.Generator().manual_seed(seed), with_slider(model, tensors, 1.0)

    def error(x, sigma, goal, name) -> float:
        return mean_square(estimate(carrying, x[None], torch.tensor([sigma]), CONDS[name])[0], goal)

    draws = list(noised_by_hand(model, family, INSTANCE, rng, count))
    subject = sum(error(*draw, "instance") for draw in draws) / count
    if kind == "pictures":
        draws = list(noised_by_hand(model, family, CLASS, rng, count))
    else:
        draws = [
            (x, float(sigma), estimate(model, x[None], sigma[None], CONDS["class"])[0])
            for x, sigma in ((bank.x[row], bank.sigma[row]) for row in bank.drawn(rng, count))
        ]
    return subject, sum(error(*draw, "class") for draw in draws) / count


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("steps", [0, 4])
def test_the_loss_is_equation_2(family, kind, steps):
    model = tiny_models.unet_model(family)
    run = training(model, kind)
    run.run(steps)
    bank = run.objective.prior.bank if kind == "output" else None
    subject, prior = by_hand(model, family, kind, run.factors.tensors(), bank, 5, 2)
    assert loss_of(run) == pytest.approx(subject + WEIGHT * prior, rel=1e-4)
    if kind == "pictures":
        assert prior > 0.05
    elif steps == 0:
        assert prior == 0  # the model's own output, by the model
    else:
        assert prior > 1e-5


def test_held_at_its_own_output_an_untrained_lora_has_no_error_on_the_class():
    run = training(tiny_models.unet_model(), "output", weight=1.0)
    assert abs(class_part(run)) < 1e-6
    run.run(4)
    assert class_part(run) > 1e-4
    held_at_pictures = training(tiny_models.unet_model(), "pictures", weight=1.0)
    assert class_part(held_at_pictures) > 0.1


@pytest.mark.parametrize("kind", [None, *PRIORS])
def test_at_a_weight_of_0_nothing_is_asked_of_the_class(kind):
    calls = tiny_models.recorded(tiny_models.unet_model())
    run = training(calls.model, kind, weight=0.0, count=3)
    calls.seen.clear()
    run.run(2)
    assert calls.batches == [3, 3]
    context = CONDS["instance"][0][0]
    assert all(torch.equal(call.context, context.expand(3, -1, -1)) for call in calls.seen)
    plain = training(tiny_models.unet_model(), None, count=3)
    plain.run(2)
    assert run.losses == plain.losses


def test_what_a_step_costs():
    """Both sides are one question each; a state's own output is asked once, by itself."""
    calls = tiny_models.recorded(tiny_models.unet_model())
    run = training(calls.model, "pictures")
    calls.seen.clear()
    run.run(2)
    assert calls.batches == [2, 2] * 2
    run = training(calls.model, "output")
    calls.seen.clear()
    loss_of(run)
    assert sorted(calls.batches) == [1, 1, 2, 2]
    assert sum(torch.equal(call.context[:1], CONDS["class"][0][0]) for call in calls.seen) == 3
    calls.seen.clear()
    loss_of(run)
    assert calls.batches == [2, 2]


@pytest.mark.parametrize("kind", PRIORS)
def test_a_step_in_parts_is_the_step(kind):
    run = training(tiny_models.unet_model(), kind)
    run.run(2)
    drawn = run.objective.drawn(torch.Generator().manual_seed(5), 4)
    parts = zip(*(each.split(1) for each in drawn), strict=True)
    losses = asked_by(run, lambda asked: [run.objective.loss(asked, *part).detach() for part in parts])
    assert float(sum(losses)) / 4 == pytest.approx(loss_of(run, count=4), rel=1e-5)


@pytest.mark.parametrize("kind", PRIORS)
def test_both_sides_are_asked_at_strength_1_by_their_own_words(kind):
    run = training(tiny_models.unet_model(), kind)
    subject, prior = Listening().hears(run.objective, 0, 3)
    assert (subject.name, prior.name) == ("instance", "class")
    for question in (subject, prior):
        assert question.strengths.tolist() == [1.0] * 3
        assert question.x.shape == (3, *SHAPE)
    assert not torch.equal(subject.x, prior.x)


def test_the_class_stays_what_it_was_where_it_is_held():
    """How far the model's output for the class has moved, by the same steps on the subject."""
    model = tiny_models.unet_model()
    bank = prior_of(model, "output").bank
    rows = list(range(0, len(bank.sigma), 4))
    x, sigma = bank.x[rows], bank.sigma[rows]
    plain, moved, left = estimate(model, x, sigma, CONDS["class"]), {}, {}
    for weight in (0.0, 4.0):
        run = training(model, "output", weight)
        run.run(25)
        moved[weight] = tiny_models.relative(
            estimate(with_slider(model, run.factors.tensors(), 1.0), x, sigma, CONDS["class"]), plain
        )
        run.objective.prior = None
        left[weight] = sum(loss_of(run, seed) for seed in range(4))
    untrained = training(model, None)
    start = sum(loss_of(untrained, seed) for seed in range(4))
    assert moved[4.0] < 0.6 * moved[0.0]
    assert left[4.0] < start  # and the subject is learnt


@pytest.mark.parametrize("kind", PRIORS)
def test_in_inference_mode_as_a_node_runs_it_is_the_same(kind):
    outside = training(tiny_models.unet_model(), kind)
    outside.run(3)
    with torch.inference_mode():
        inside = training(tiny_models.unet_model(), kind, instance=INSTANCE.clone())
        inside.run(3)
    same(inside, outside)


def kept_of(run) -> Kept:
    return Kept.of(run, "my dog", {})


@pytest.mark.parametrize("kind", PRIORS)
def test_going_on_is_bit_equal_to_never_having_stopped(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    goes_on(lambda: training(tiny_models.unet_model(), kind), kept_of)


def test_other_pictures_and_another_prior_are_another_training():
    model = tiny_models.unet_model()
    found = [kept_of(training(model, kind)).digest for kind in (None, *PRIORS)]
    found.append(kept_of(training(model, None, instance=INSTANCE + 1)).digest)
    assert len(set(found)) == 4
    assert kept_of(training(model, "output")).digest in found


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match=r"prior_weight is .*; it must be a number of 0 or more \(the paper: 1\)"):
        training(tiny_models.unet_model(), "pictures", weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("subject", "count"), [(3, 64), (17, 68)])
def test_the_class_is_painted_by_the_hosts_sampler_without_guidance(kind, subject, count):
    model, empty = tiny_models.unet_model(kind), torch.zeros(1, *SHAPE)
    made = class_pictures(model, CONDS["class"], empty, 7, subject, 32)
    assert made.shape == (count, *SHAPE)
    guider = tiny_models.cfg_guider(model, CONDS["class"], CONDS["instance"], 1.0)
    sigmas = levels(model.get_model_object("model_sampling"), 1.0, 0.5)
    for row in (0, 40, count - 1):
        alone = tiny_models.sample(guider, comfy.sample.prepare_noise(empty, 7 + row), sigmas, latent=empty)
        inside = model.get_model_object("latent_format").process_in(alone)
        assert torch.allclose(made[row : row + 1], inside, atol=1e-4)
