"""What a step shows the model of pictures: levels from the whole range that was asked for, each picture in its turn."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from comfy.model_base import ModelType
from semantic_steering.nodes.host.run.levels import with_noise
from semantic_steering.nodes.host.training.bank import Bank
from semantic_steering.nodes.host.training.noised import Noise, evenly, plain

KINDS = [ModelType.EPS, ModelType.V_PREDICTION, ModelType.FLOW]
SHAPE = (4, 8, 8)


def sampling(kind: ModelType = ModelType.EPS):
    return tiny_models.unet_model(kind).get_model_object("model_sampling")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.2, 0.6), (0.5, 0.501)])
def test_levels_cover_the_range_and_stay_inside_it(kind, start, end):
    own, count = sampling(kind), 4
    noise = Noise(own, start, end)
    drawn = torch.stack([noise.drawn(generator(seed), count, SHAPE)[0] for seed in range(150)])
    edges = [float(own.percent_to_sigma(start + (end - start) * part / count)) for part in range(count + 1)]
    lowest, highest = float(own.sigma_min), float(own.sigma_max)
    edges = [min(max(edge, lowest), highest) for edge in edges]
    for part in range(count):
        upper, lower, found = edges[part], edges[part + 1], drawn[:, part]
        assert float(found.max()) <= upper * (1 + 1e-6)
        assert float(found.min()) >= lower * (1 - 1e-6)
        # Uniform in percent: of 150 draws some lie near both of a part's ends.
        shares = [start + (end - start) * (part + near) / count for near in (0.05, 0.95)]
        near_upper, near_lower = (float(own.percent_to_sigma(share)) for share in shares)
        assert float(found.max()) > near_upper
        assert float(found.min()) < near_lower
        middle = float(own.percent_to_sigma(start + (end - start) * (part + 0.5) / count))
        assert 0.35 < float((found > middle).float().mean()) < 0.65


@pytest.mark.parametrize("kind", KINDS)
def test_a_levels_ends_are_those_of_the_model(kind, monkeypatch):
    """Below the lowest level of its table and above the highest a network was never trained."""
    own = sampling(kind)
    for number, expected in ((0.0, own.sigma_max), (1 - 2**-24, own.sigma_min)):
        monkeypatch.setattr(torch, "rand", lambda count, number=number, **_: torch.full((count,), number))
        sigma, _ = Noise(own, 0.0, 1.0).drawn(generator(0), 1, SHAPE)
        assert float(sigma) == pytest.approx(float(expected), rel=1e-4)
        assert own.sigma_min <= sigma <= own.sigma_max


def test_the_largest_number_that_can_be_drawn_is_still_a_row(monkeypatch):
    """3 and the float32 below 1 are rounded to 4."""
    monkeypatch.setattr(torch, "rand", lambda count, **_: torch.full((count,), 1 - 2**-24))
    for length in (4, 5, 40, 64):
        rows = Bank(torch.zeros(length, 1), torch.arange(float(length))).drawn(generator(0), 4)
        assert int(rows.min()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_the_familys_and_the_goal_the_pictures(kind):
    pictures, noise = tiny_models.noise(3, *SHAPE, seed=1), tiny_models.noise(3, *SHAPE, seed=2)
    sigma = torch.tensor([0.9, 0.5, 0.1]) if kind is ModelType.FLOW else torch.tensor([12.0, 1.5, 0.1])
    x, goal = Noise(sampling(kind), 0.0, 1.0).added(pictures, sigma, noise)
    for i, level in enumerate(sigma.tolist()):
        share = 1 - level if kind is ModelType.FLOW else 1.0
        torch.testing.assert_close(x[i], share * pictures[i] + level * noise[i])
        wanted = noise[i] - pictures[i] if kind is ModelType.FLOW else noise[i]
        torch.testing.assert_close(goal[i], wanted, rtol=1e-4, atol=1e-5)


def test_at_the_highest_level_it_is_the_state_that_the_hosts_samplers_start_from():
    own = sampling()
    pictures, noise = tiny_models.noise(1, *SHAPE, seed=1), tiny_models.noise(1, *SHAPE, seed=2)
    x, goal = Noise(own, 0.0, 1.0).added(pictures, own.sigma_max[None], noise)
    torch.testing.assert_close(x, with_noise(own, float(own.sigma_max), noise, pictures))
    assert not torch.allclose(x, own.sigma_max * noise + pictures)
    torch.testing.assert_close(x - own.sigma_max * goal, pictures, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("total", "count"), [(5, 2), (5, 5), (3, 8), (1, 4)])
def test_every_picture_has_its_turn(total, count):
    steps = 600
    seen = torch.stack([evenly(generator(seed), total, count).bincount(minlength=total) for seed in range(steps)])
    assert seen.shape == (steps, total)
    assert int((seen.max(1).values - seen.min(1).values).max()) <= 1  # in a step
    expected = steps * count / total
    assert (seen.sum(0) - expected).abs().max() < 4 * expected**0.5


def test_the_order_is_another_in_every_step():
    assert len({tuple(evenly(generator(seed), 4, 4).tolist()) for seed in range(200)}) == 24


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.6, 0.2), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1.0)])
def test_a_range_without_levels_is_refused(start, end):
    with pytest.raises(
        ValueError, match=r"start_percent is .* and end_percent .*; both lie from 0 to 1, start_percent"
    ):
        Noise(sampling(), start, end)


def test_what_a_node_hands_over_is_copied_out_of_inference_mode():
    with torch.inference_mode():
        given = torch.ones(2)
        found = plain(given)
        given += 1
    assert not found.is_inference()
    assert found.tolist() == [1.0, 1.0]
