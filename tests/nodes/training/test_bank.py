"""The states a slider is trained at are those of the host's own runs, and each step sees the whole range of levels."""

from __future__ import annotations

import comfy.sample
import pytest
import tiny_models
import torch
from comfy.model_base import ModelType
from semantic_steering.nodes.host.training.bank import STEPS, Bank, levels, walked
from training_runs import NEGATIVE, TARGET

EMPTY = torch.zeros(1, 4, 8, 8)
KINDS = [ModelType.EPS, ModelType.V_PREDICTION, ModelType.FLOW]


def bank(model, start=0.0, end=0.6, at_once=2, trajectories=4, seed=11) -> Bank:
    return walked(model, TARGET, EMPTY, start, end, seed, at_once, trajectories)


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_the_states_of_the_hosts_sampler(kind):
    """A KSampler's run over the same levels, written out by its callback."""
    model = tiny_models.unet_model(kind)
    found = bank(model, at_once=1, trajectories=2)
    sigmas = levels(model.get_model_object("model_sampling"), 0.6, 0.25)
    seen = []
    tiny_models.sample(
        tiny_models.cfg_guider(model, TARGET, NEGATIVE, 1.0), comfy.sample.prepare_noise(EMPTY, 11), sigmas,
        callback=lambda step, x0, x, total: seen.append(x.clone()), latent=EMPTY,
    )  # fmt: skip
    assert len(seen) == len(sigmas) - 1
    for i, state in enumerate(seen):
        assert torch.equal(found.x[i : i + 1], state)
        assert found.sigma[i] == sigmas[i]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.6), (0.2, 0.6), (0.35, 1.0), (0.5, 0.55)])
def test_levels_lie_in_the_range(kind, start, end):
    sampling = tiny_models.unet_model(kind).get_model_object("model_sampling")
    for shift in (0.0, 0.3, 0.99):
        found = levels(sampling, end, shift)
        assert (found[1:] < found[:-1]).all()
        assert float(found[0]) == pytest.approx(float(sampling.sigma_max))
        assert float(found[-1]) == pytest.approx(float(sampling.percent_to_sigma(end)))
        assert len(found) <= STEPS * end + 3
    states = bank(tiny_models.unet_model(kind), start, end, trajectories=2).sigma
    assert float(states.max()) <= min(float(sampling.percent_to_sigma(start)), float(sampling.sigma_max)) * 1.001
    assert float(states.min()) > float(sampling.percent_to_sigma(end))


def test_a_range_between_two_levels_is_refused_by_its_names():
    model = tiny_models.unet_model()
    with pytest.raises(ValueError, match=r"start_percent 0.51 to end_percent 0.51 .* at least 0.05"):
        bank(model, 0.51, 0.51)


def test_each_draw_is_one_of_its_own_part_of_the_levels():
    found = Bank(torch.zeros(40, 1), torch.arange(40.0))
    for seed in range(50):
        rows = found.drawn(torch.Generator().manual_seed(seed), 4)
        assert [int(row) // 10 for row in rows] == [3, 2, 1, 0]
    drawn = torch.cat([found.drawn(torch.Generator().manual_seed(seed), 4) for seed in range(400)])
    assert len(set(drawn.tolist())) == 40


def test_how_many_run_at_once_changes_their_levels_only():
    """A batch is its single runs: the noise of a seed is the same, whichever others run beside it."""
    model = tiny_models.unet_model()
    one, two = bank(model, at_once=4), bank(model, at_once=4, seed=12)
    assert torch.equal(one.sigma, two.sigma)
    assert torch.equal(one.x[1], two.x[0])
