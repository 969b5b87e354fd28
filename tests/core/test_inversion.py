"""Inversion steps against closed forms: data that is Gaussian, and slopes that are linear."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from guidance_core import LARGEST_RESIDUAL, accelerate, ddim_step, fixed_point_step, slope
from guidance_core.inversion import TOLERANCE

STEPS = (64, 128, 256, 512)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@dataclass
class Diffusion:
    """Data N(μ, s²) seen through x = x0 + σ·n. The best denoiser and the probability flow have closed forms."""

    s: float
    mu: Tensor
    sigma_max: float = 8.0

    def variance(self, sigma: float) -> float:
        return self.s**2 + sigma**2

    def share(self, sigma: float) -> float:
        return 1.0

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """E[x0 | x] of a joint normal distribution."""
        a = self.share(sigma)
        return self.mu + a * self.s**2 / self.variance(sigma) * (x - a * self.mu)

    def flow(self, x: Tensor, sigma: float) -> Tensor:
        """Where the probability-flow equation takes a picture x = x(0): the same quantile of the law at σ."""
        return self.share(sigma) * self.mu + math.sqrt(self.variance(sigma)) / self.s * (x - self.mu)

    def input_ratio(self, sigma: float, following: float) -> float:
        return math.sqrt((following**2 + 1) / (sigma**2 + 1))

    def levels(self, steps: int) -> list[float]:
        return [self.sigma_max * i / steps for i in range(steps + 1)]


class Flow(Diffusion):
    """x = (1 − σ)·x0 + σ·n."""

    def variance(self, sigma: float) -> float:
        return (1 - sigma) ** 2 * self.s**2 + sigma**2

    def share(self, sigma: float) -> float:
        return 1 - sigma

    def input_ratio(self, sigma: float, following: float) -> float:
        return 1.0


MU = randn(2, 3, 4, 4, seed=1)
PICTURE = randn(2, 3, 4, 4, seed=2)
FAMILIES = {
    "narrow data": Diffusion(0.5, MU),
    "wide data": Diffusion(2.0, MU),
    "flow": Flow(0.6, MU, 1.0),
    "flow, wide data": Flow(1.8, MU, 1.0),
}


def encode(family: Diffusion, x: Tensor, steps: int) -> Tensor:
    for sigma, following in itertools.pairwise(family.levels(steps)):
        x = ddim_step(family.denoise, x, sigma, following, family.input_ratio(sigma, following)).x
    return x


def decode(denoise, x: Tensor, levels: list[float]) -> Tensor:
    """Explicit Euler, written out: what stock samplers do."""
    for sigma, following in itertools.pairwise(reversed(levels)):
        x = x + (following - sigma) * (x - denoise(x, sigma)) / sigma
    return x


def order(errors: list[float]) -> float:
    """The slope of log error against log step size."""
    return -float(np.polyfit(np.log(STEPS), np.log(errors), 1)[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_closed_form_solves_the_slope(name):
    """A check of the oracle: dx/dσ by differences is the slope of the best denoiser."""
    family = FAMILIES[name]
    for sigma in (0.1, 0.5, 0.9):
        h = 1e-5
        change = (family.flow(PICTURE, sigma + h) - family.flow(PICTURE, sigma - h)) / (2 * h)
        x = family.flow(PICTURE, sigma)
        torch.testing.assert_close(slope(x, family.denoise(x, sigma), sigma), change, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", FAMILIES)
def test_ddim_is_first_order_against_the_exact_flow(name):
    family = FAMILIES[name]
    exact = family.flow(PICTURE, family.sigma_max)
    errors = [float((encode(family, PICTURE, n) - exact).norm()) for n in STEPS]
    assert order(errors) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_ddim_round_trip_is_first_order(name):
    family = FAMILIES[name]
    errors = [
        float((decode(family.denoise, encode(family, PICTURE, n), family.levels(n)) - PICTURE).norm()) for n in STEPS
    ]
    assert order(errors) == pytest.approx(1, abs=0.1)


def test_ddim_evaluates_once_at_the_next_level_with_the_scaled_state():
    seen = []

    def denoise(x, sigma):
        seen.append((x, sigma))
        return torch.zeros_like(x)

    level = ddim_step(denoise, PICTURE, 0.5, 0.75, 1.25)
    ((x, sigma),) = seen
    assert torch.equal(x, 1.25 * PICTURE) and sigma == 0.75
    torch.testing.assert_close(level.slope, 1.25 * PICTURE / 0.75)
    torch.testing.assert_close(level.x, PICTURE + 0.25 * level.slope)
    assert level.evaluations == 1 and torch.equal(level.residual, torch.zeros(2))


def climb(denoise, x: Tensor, levels: list[float], **options) -> tuple[Tensor, list]:
    """Fixed-point steps up to the last level."""
    previous, found = None, []
    for sigma, following in itertools.pairwise(levels):
        found.append(fixed_point_step(denoise, x, sigma, following, previous, **options))
        x, previous = found[-1].x, found[-1].slope
    return x, found


@pytest.mark.parametrize("steps", [2, 5, 30])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_fixed_point_round_trip_is_exact_at_any_number_of_steps(name, steps):
    family = FAMILIES[name]
    levels = family.levels(steps)
    state, found = climb(family.denoise, PICTURE, levels, iterations=20, tolerance=1e-10)
    assert all(level.residual.max() <= 1e-10 for level in found)
    torch.testing.assert_close(decode(family.denoise, state, levels), PICTURE, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_fixed_point_step_is_the_closed_solution_of_its_equation(name):
    """With slope c·x + e the equation is linear: x⁺ = (x + h·e)/(1 − h·c)."""
    family = FAMILIES[name]
    sigma, following = 0.3, 0.7
    zero, one = torch.zeros_like(PICTURE), torch.ones_like(PICTURE)
    e = slope(zero, family.denoise(zero, following), following)
    c = slope(one, family.denoise(one, following), following) - e
    h = following - sigma
    level = fixed_point_step(family.denoise, PICTURE, sigma, following, None, 20, 1e-12)
    torch.testing.assert_close(level.x, (PICTURE + h * e) / (1 - h * c), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(level.slope, c * level.x + e, rtol=1e-8, atol=1e-8)


def wavy(strength: float = 0.8, seed: int = 3):
    """A nonlinear denoiser that mixes neighbours; its slope is a tanh of shifted copies."""
    weights = randn(5, seed=seed)

    def d(x: Tensor, sigma: float) -> Tensor:
        mixed = sum(float(w) * x.roll(i + 1, -1) for i, w in enumerate(weights))
        return strength * torch.tanh(mixed + sigma) + 0.1 * x

    return lambda x, sigma: x - sigma * d(x, sigma)


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 5, 7), (2, 3, 2, 5, 7)], ids=["3-d", "4-d", "5-d"])
def test_every_rank_agrees_with_many_plain_rounds(shape):
    denoise, x = wavy(), randn(*shape, seed=4)
    sigma, following = 0.5, 0.8
    level = fixed_point_step(denoise, x, sigma, following, None, 40, 1e-11)
    slow = x
    for _ in range(500):
        slow = x + (following - sigma) * (slow - denoise(slow, following)) / following
    assert level.x.shape == shape
    torch.testing.assert_close(level.x, slow, rtol=1e-8, atol=1e-8)


def test_the_reported_residual_is_the_equations():
    denoise, x = wavy(), randn(3, 2, 4, 6, seed=5)
    sigma, following = 0.5, 0.8
    level = fixed_point_step(denoise, x, sigma, following, None, 40, 1e-4)
    f = x + (following - sigma) * slope(level.x, denoise(level.x, following), following) - level.x
    expected = f.flatten(1).norm(dim=1) / level.x.flatten(1).norm(dim=1)
    assert (level.residual <= 1e-4).all() and (level.residual > 0).all()
    torch.testing.assert_close(level.residual, expected.float(), rtol=1e-4, atol=0)


class Counted:
    """A denoiser that counts; it answers from what it is called with only."""

    def __init__(self, denoise):
        self.denoise, self.count = denoise, 0

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        self.count += 1
        return self.denoise(x, sigma)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5, 8, 30])
def test_evaluations_are_counted_and_never_more_than_allowed(iterations):
    denoise = Counted(wavy())
    level = fixed_point_step(denoise, randn(2, 3, 6, 6, seed=6), 0.5, 0.8, None, iterations)
    assert level.evaluations == denoise.count <= iterations
    if iterations == 30:
        assert denoise.count < 30 and (level.residual <= TOLERANCE).all()
    if iterations == 1:
        assert denoise.count == 1 and (level.residual > TOLERANCE).all()


def test_more_rounds_come_closer():
    x, found = randn(2, 3, 6, 6, seed=6), []
    for iterations in (1, 2, 4, 8):
        found.append(float(fixed_point_step(wavy(), x, 0.5, 0.8, None, iterations).residual.max()))
    assert sorted(found, reverse=True) == found and found[-1] < 1e-2 * found[0]


def test_a_good_first_guess_costs_one_evaluation():
    """The previous level's slope is the guess; a constant slope is solved by it."""
    e = randn(2, 3, 4, 4, seed=7)
    denoise = Counted(lambda x, sigma: x - sigma * e)
    level = fixed_point_step(denoise, PICTURE[:, :3], 0.2, 0.5, e, 8)
    assert denoise.count == 1
    torch.testing.assert_close(level.x, PICTURE + 0.3 * e)
    assert fixed_point_step(denoise, PICTURE, 0.2, 0.5, None, 8).evaluations > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
def test_no_picture_depends_on_the_others(tolerance, dtype):
    """One picture needs many rounds, one few, one none: each comes out as if it were alone."""
    x = randn(3, 2, 5, 6, seed=8, dtype=dtype) * torch.tensor([3.0, 0.3, 0.0], dtype=dtype).reshape(3, 1, 1, 1)
    x[2] = 1.0

    def denoise(x, sigma):
        return x - sigma * (1.2 * torch.tanh(x.roll(1, -1)) - torch.tanh(torch.ones((), dtype=dtype)) * 1.2)

    batch = fixed_point_step(denoise, x, 0.5, 1.2, None, 12, tolerance)
    singles = [fixed_point_step(denoise, x[i : i + 1], 0.5, 1.2, None, 12, tolerance) for i in range(3)]
    assert batch.evaluations == max(single.evaluations for single in singles)
    assert len({single.evaluations for single in singles}) == 3
    for i, single in enumerate(singles):
        assert torch.equal(batch.x[i : i + 1], single.x)
        assert torch.equal(batch.residual[i : i + 1], single.residual)


def test_a_step_without_a_solution_is_not_called_solved():
    """One flow step from the picture to pure noise: x⁺ = x + (x⁺ − μ). The iterates run away, which is no solution."""
    level = fixed_point_step(FAMILIES["flow"].denoise, PICTURE, 0.0, 1.0, None, 20)
    assert not (level.residual <= LARGEST_RESIDUAL).any()


def test_the_slope_does_not_exist_at_sigma_0():
    with pytest.raises(ValueError, match="σ = 0"):
        slope(PICTURE, PICTURE, 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("after", [0, 2])
def test_a_broken_estimate_ends_the_step_at_once(after, bad):
    """One picture of two; its residual says so."""
    calls = []

    def denoise(x, sigma):
        calls.append(1)
        x0 = wavy()(x, sigma)
        if len(calls) > after:
            x0[1] = bad
        return x0

    level = fixed_point_step(denoise, randn(2, 3, 6, 6, seed=6), 0.5, 0.8, None, 50)
    assert level.evaluations == len(calls) == after + 1
    assert level.residual[0].isfinite() and not level.residual[1].isfinite()


def lstsq_step(guesses: list[Tensor], residuals: list[Tensor]) -> np.ndarray:
    """Anderson's step from its definition, one picture at a time, by numpy's least squares."""
    out = []
    for b in range(len(guesses[0])):
        x = np.stack([g[b].double().numpy().ravel() for g in guesses], axis=1)
        f = np.stack([r[b].double().numpy().ravel() for r in residuals], axis=1)
        step = x[:, -1] + f[:, -1]
        if x.shape[1] > 1:
            gamma = np.linalg.lstsq(np.diff(f), f[:, -1], rcond=None)[0]
            step = step - (np.diff(x) + np.diff(f)) @ gamma
        out.append(step.reshape(guesses[0].shape[1:]))
    return np.stack(out)


@settings(max_examples=60)
@given(
    shape=st.sampled_from([(1, 4, 5), (2, 3, 4, 4), (3, 2, 2, 3, 3)]),
    count=st.integers(1, 8),
    spread=st.floats(0, 6),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_acceleration_is_andersons_least_squares(shape, count, spread, dtype, seed):
    """Also where the residuals' sizes span many orders of magnitude, as they do on the way to a solution."""
    sizes = [10 ** (-spread * i / count) for i in range(count)]
    guesses = [randn(*shape, seed=seed + i, dtype=dtype) for i in range(count)]
    residuals = [size * randn(*shape, seed=seed + 50 + i, dtype=dtype) for i, size in enumerate(sizes)]
    found, expected = accelerate(guesses, residuals), lstsq_step(guesses, residuals)
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def linear(matrix: Tensor, e: Tensor):
    """The denoiser whose slope is x·Aᵀ + e over the last axis."""
    return lambda x, sigma: x - sigma * (x @ matrix.T + e)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_a_linear_problem_of_d_dimensions_takes_d_plus_one_steps(size):
    """As GMRES, which Anderson acceleration is on linear problems."""
    matrix, e, x = randn(size, size, seed=size), randn(size, seed=9), randn(1, 1, size, seed=10)
    h = 0.5
    exact = torch.linalg.solve(torch.eye(size, dtype=torch.float64) - h * matrix, (x + h * e).reshape(-1))
    level = fixed_point_step(linear(matrix, e), x, 0.5, 1.0, None, size + 1, 0.0)
    assert level.evaluations == size + 1
    torch.testing.assert_close(level.x.reshape(-1), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("radius", "rounds"), [(0.95, 8), (1.6, 8)])
def test_acceleration_solves_what_plain_iteration_does_not(radius, rounds):
    """A step whose map hardly contracts, or does not at all."""
    half = randn(6, 6, seed=11)
    matrix = half + half.T
    matrix = -matrix / torch.linalg.eigvalsh(matrix).abs().max() * radius / 0.5
    denoise, x = linear(matrix, randn(6, seed=12)), randn(2, 3, 6, seed=13)
    level = fixed_point_step(denoise, x, 0.5, 1.0, None, rounds, 1e-9)
    plain = x
    for _ in range(rounds):
        f = x + 0.5 * slope(plain, denoise(plain, 1.0), 1.0) - plain
        plain = plain + f
    last = x + 0.5 * slope(plain, denoise(plain, 1.0), 1.0) - plain
    assert level.residual.max() < 1e-3 * last.norm() / plain.norm()
