"""DDIM inversion: the noise that a deterministic sampler turns back into a given picture.

Song et al., 2021 (arXiv:2010.02502, eq. 13 and section 4.3); used by DiffEdit (Couairon et al., 2023,
arXiv:2210.11427, step 2) as "DDIM encoding". Also known as unsampling, encoding. `random` levels are SDEdit's (Meng et
al., 2022, arXiv:2108.01073) and need no model: they are made where the host adds noise.

Everything is said in the k-diffusion state x(σ) with the slope dx/dσ = (x − x0(x, σ))/σ, which is ε for eps, v and EDM
models (x = x0 + σε) and ε − x0 for flow models (x = (1 − σ)x0 + σε). A DDIM step is then an Euler step in σ, and

    decode   x = x⁺ + (σ − σ⁺)·d(x⁺, σ⁺)          σ⁺ > σ: the step that an inversion has to undo
    invert   x⁺ = x + (σ⁺ − σ)·d(x⁺, σ⁺)          implicit: x⁺ stands on both sides

Legend: x⁺, σ⁺ the next, noisier level; d slope; f = x + (σ⁺ − σ)·d(x⁺, σ⁺) − x⁺ the equation's residual, which is
also the error that one decoding step makes; B batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-6  # relative residual at which a level counts as solved
LARGEST_RESIDUAL = 1e-2
MEMORY = 8  # earlier iterates that the acceleration combines

Denoise = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class Level:
    """One level of an inversion: its state [B, ...], the slope there, the relative residual [B] of its equation
    (0 where none is solved) and how often the model was evaluated for it."""

    x: Tensor
    slope: Tensor
    residual: Tensor
    evaluations: int


def slope(x: Tensor, denoised: Tensor, sigma: float) -> Tensor:
    """dx/dσ = (x − x0)/σ, the probability-flow direction of every family. Raises ValueError at σ = 0."""
    if sigma == 0:
        raise ValueError("the slope (x − x0)/σ does not exist at σ = 0")
    return (x - denoised) / sigma


def ddim_step(denoise: Denoise, x: Tensor, sigma: float, following: float, input_ratio: float) -> Level:
    """The explicit step of diffusers' `invert`: the model sees the current level's scaled input with the next σ.

    x⁺ = x + (σ⁺ − σ)·d(x', σ⁺) with x' = x·c_in(σ)/c_in(σ⁺); input_ratio is that quotient (1 for flow models). First
    order: the round trip's error halves with the step size.
    """
    shifted = x * input_ratio
    d = slope(shifted, denoise(shifted, following), following)
    return Level(x + (following - sigma) * d, d, torch.zeros(len(x)), 1)


def fixed_point_step(
    denoise: Denoise,
    x: Tensor,
    sigma: float,
    following: float,
    previous: Tensor | None,
    iterations: int,
    tolerance: float = TOLERANCE,
) -> Level:
    """Solve x⁺ = x + (σ⁺ − σ)·d(x⁺, σ⁺) for each picture of the batch by itself.

    Starts from the previous level's slope (none: from x) and takes Anderson-accelerated steps (`accelerate`), at most
    `iterations` evaluations of the model. A picture whose residual ‖f‖/min(‖x⁺‖, ‖x‖ + |σ⁺ − σ|·√N) is within the
    tolerance keeps still, so that no picture depends on the others. The residual is that of the last evaluated iterate;
    a picture that did not reach the tolerance is one accelerated step further.
    """
    step = following - sigma
    guess = x if previous is None else x + step * previous
    guesses: list[Tensor] = []
    residuals: list[Tensor] = []
    error, evaluations = torch.zeros(len(x)), 0
    while evaluations < iterations:
        f = x + step * slope(guess, denoise(guess, following), following) - guess
        evaluations += 1
        # ‖x⁺‖, but never more than a step along unit noise can make of x: iterates that run away solve nothing.
        size = torch.minimum(_norm(guess), _norm(x) + abs(step) * math.sqrt(x[0].numel()))
        error = _norm(f) / size.clamp_min(torch.finfo(torch.float32).tiny)
        solved = error <= tolerance
        if solved.all() or not torch.isfinite(error).all():
            break
        guesses, residuals = [*guesses, guess][-MEMORY:], [*residuals, f][-MEMORY:]
        guess = torch.where(solved.reshape(-1, *[1] * (x.ndim - 1)), guess, accelerate(guesses, residuals))
    return Level(guess, (guess - x) / step, error, evaluations)


def accelerate(guesses: list[Tensor], residuals: list[Tensor]) -> Tensor:
    """The next iterate of Anderson acceleration (Walker & Ni, 2011, type II), per batch entry:

    x_{k+1} = x_k + f_k − (ΔX + ΔF)·γ,  γ = argmin ‖f_k − ΔF·γ‖, with the differences of successive iterates and
    residuals in ΔX and ΔF. With one iterate it is the plain fixed-point step x_k + f_k.
    """
    x, f = guesses[-1], residuals[-1]
    if len(guesses) == 1:
        return x + f
    dx = torch.stack([b - a for a, b in itertools.pairwise(guesses)]).flatten(2)  # [m, B, N]
    df = torch.stack([b - a for a, b in itertools.pairwise(residuals)]).flatten(2)
    scale = df.norm(dim=2, keepdim=True).clamp_min(torch.finfo(df.dtype).tiny)
    unit = df / scale
    # Normal equations of unit columns: m×m numbers a picture, solved in float64 on the CPU (MPS has none).
    gram = torch.einsum("mbn,kbn->bmk", unit, unit).cpu().double()
    right = torch.einsum("mbn,bn->bm", unit, f.flatten(1)).cpu().double()
    ridge = 1e-8 * torch.eye(gram.shape[-1], dtype=gram.dtype)
    gamma = torch.linalg.solve(gram + ridge, right).to(f.device, f.dtype)  # [B, m]
    correction = torch.einsum("bm,mbn->bn", gamma, (dx + df) / scale)
    return x + f - correction.reshape(f.shape)


def _norm(x: Tensor) -> Tensor:
    return x.float().flatten(1).norm(dim=1)
