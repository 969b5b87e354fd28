"""The losses of training against the papers' formulas and the authors' code, written out number by number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guidance_core.training import (
    noise_estimate,
    of_size,
    pair_loss,
    prior_loss,
    slider_loss,
    squared_error,
    text_target,
)

SHAPES = [(1, 4, 3, 5), (2, 4, 2, 3, 4)]


def tensors(count: int, shape: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


def mean_square(found, wanted) -> float:
    total = sum((float(found[place]) - float(wanted[place])) ** 2 for place in np.ndindex(*found.shape))
    return total / found.numel()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("preserved", [1, 3])
def test_the_target_of_words_is_equation_8(shape, sign, preserved):
    neutral, *poles = tensors(1 + 2 * preserved, shape)
    plus, minus = torch.stack(poles[:preserved]), torch.stack(poles[preserved:])
    found = text_target(neutral, plus, minus, 2.5, sign)
    for place in np.ndindex(*shape):
        differences = [float(plus[p][place]) - float(minus[p][place]) for p in range(preserved)]
        wanted = float(neutral[place]) + sign * 2.5 * sum(differences) / preserved
        assert float(found[place]) == pytest.approx(wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_at_plus_1_it_is_the_authors_code(shape):
    """`PromptEmbedsPair.enhance` of rohitgandikota/sliders: loss_fn(target_latents, neutral_latents + guidance_scale *
    (positive_latents - unconditional_latents)), which trains no other sign."""
    at_plus, neutral, plus, minus = tensors(4, shape)
    theirs = torch.nn.MSELoss()(at_plus, neutral + 4.0 * (plus - minus)).item()
    target = text_target(neutral, plus[None], minus[None], 4.0, 1)
    assert squared_error(at_plus, target).item() == pytest.approx(theirs, rel=1e-5)


def test_both_signs_count_alike():
    at_plus, at_minus, target_plus, target_minus = tensors(4, SHAPES[0])
    found = slider_loss(at_plus, at_minus, target_plus, target_minus).item()
    assert found == pytest.approx(
        (mean_square(at_plus, target_plus) + mean_square(at_minus, target_minus)) / 2, rel=1e-5
    )


def test_what_does_not_depend_on_the_sign_is_no_gradient_of_a_linear_slider():
    """n(c_t; ±1) = n ± d. Something that the model gets wrong at both strengths alike, n + b, moves d nowhere."""
    neutral, direction, common, wanted = tensors(4, SHAPES[0])
    gradients = []
    for wrong in (torch.zeros_like(common), common):
        d = direction.clone().requires_grad_()
        slider_loss(neutral + wrong + d, neutral + wrong - d, neutral + wanted, neutral - wanted).backward()
        gradients.append(d.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)
    assert gradients[0].abs().max() > 1e-3


@pytest.mark.parametrize("family", ["eps", "v", "edm", "flow"])
def test_a_perfect_model_has_no_error_in_any_family(family):
    """n of the true picture is what the family's own network would have to give, in n's units."""
    picture, noise = tensors(2, (3, 4, 2, 2))
    sigma = torch.tensor([0.1, 0.5, 0.9] if family == "flow" else [0.3, 2.0, 11.0], dtype=torch.float64)
    s = sigma.reshape(-1, 1, 1, 1)
    if family == "flow":
        x, wanted = (1 - s) * picture + s * noise, noise - picture
    else:
        x, wanted = picture + s * noise, noise
    torch.testing.assert_close(noise_estimate(x, picture, sigma), wanted)


@given(st.floats(1e-3, 1e3), st.integers(1, 3))
def test_only_the_length_changes(scale, batch):
    target, like = tensors(2, (batch, 4, 3, 3), seed=batch)
    found = of_size(scale * target, like)
    for row in range(batch):
        length = math.sqrt(sum(float(v) ** 2 for v in like[row].flatten()))
        assert float(found[row].norm()) == pytest.approx(length, rel=1e-5)
        cosine = torch.nn.functional.cosine_similarity(found[row].flatten(), target[row].flatten(), dim=0)
        assert float(cosine) == pytest.approx(1.0)


class TestPairs:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_with_the_common_part_it_is_equation_9(self, shape):
        after, before, after_target, before_target = tensors(4, shape)
        plus, minus = after - after_target, before - before_target
        both = mean_square(plus, torch.zeros(shape)) + mean_square(minus, torch.zeros(shape))
        common = mean_square((plus + minus) / 2, torch.zeros(shape))
        found = pair_loss(after, before, after_target, before_target).item()
        assert 2 * found + 2 * common == pytest.approx(both, rel=1e-5)

    def test_the_common_part_is_not_learnt(self):
        """A style that both pictures have and the model lacks: no gradient, where equation 9 has one."""
        shared = torch.zeros(SHAPES[0], dtype=torch.float64, requires_grad=True)
        after, before, after_target, before_target = tensors(4, SHAPES[0])
        pair_loss(after + shared, before + shared, after_target, before_target).backward()
        assert shared.grad.abs().max() < 1e-9
        shared.grad = None
        (squared_error(after + shared, after_target) + squared_error(before + shared, before_target)).backward()
        assert shared.grad.abs().max() > 1e-2

    def test_the_difference_is(self):
        """Descending takes the error to 0, for a slider that adds d on one side and takes it away on the other."""
        after, before, after_target, before_target = tensors(4, SHAPES[0])
        d = torch.zeros(SHAPES[0], dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.SGD([d], lr=d.numel() / 2)
        for _ in range(20):
            optimiser.zero_grad()
            loss = pair_loss(after + d, before - d, after_target, before_target)
            loss.backward()
            optimiser.step()
        assert loss.item() < 1e-9
        torch.testing.assert_close(d.detach(), ((after_target - before_target) - (after - before)) / 2)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_subjects_have_the_loss_of_diffusers_example(weight):
    """train_dreambooth.py: F.mse_loss(model_pred, target) + prior_loss_weight * F.mse_loss(model_pred_prior, ...)."""
    instance, instance_target = tensors(2, (2, 4, 3, 3))
    prior, prior_target = tensors(2, (3, 4, 3, 3), seed=1)
    theirs = torch.nn.functional.mse_loss(instance, instance_target)
    theirs = theirs + weight * torch.nn.functional.mse_loss(prior, prior_target)
    found = prior_loss(instance, instance_target, prior, prior_target, weight)
    assert found.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_the_papers_weight_on_pictures():
    """w_t·‖x̂ − x‖² with w_t = 1/σ² is the error in noise-estimate units."""
    x, denoised, picture = tensors(3, (1, 4, 2, 2))
    sigma = torch.tensor([1.7], dtype=torch.float64)
    found = squared_error(noise_estimate(x, denoised, sigma), noise_estimate(x, picture, sigma)).item()
    assert found == pytest.approx(mean_square(denoised, picture) / 1.7**2, rel=1e-5)


def test_targets_get_no_gradient():
    found, target = (value.requires_grad_() for value in tensors(2, SHAPES[0]))
    squared_error(found, target).backward()
    assert target.grad is None
    assert found.grad is not None


def test_half_precision_is_summed_in_float32():
    found = torch.full((1, 4, 64, 64), 300.0, dtype=torch.float16)
    assert squared_error(found, torch.zeros_like(found)).item() == 90000.0


@pytest.mark.parametrize("guidance", [0.0, -1.0, math.nan, math.inf])
def test_a_guidance_that_is_none(guidance):
    one = torch.ones(1, 1)
    with pytest.raises(ValueError, match=r"guidance is .*; it must be a number above 0"):
        text_target(one, one[None], one[None], guidance, 1)


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_prior_weight_that_is_none(weight):
    one = torch.ones(1, 1)
    with pytest.raises(ValueError, match=r"prior_weight is .*; it must be a number of 0 or more"):
        prior_loss(one, one, one, one, weight)
