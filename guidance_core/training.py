"""Losses of what is trained on a frozen model: sliders from words and from pairs of pictures, and subjects.

All in noise-estimate units, n = (x − x0)/σ (docs/derivations.md), so that one formula serves every family. Concept
Sliders is arXiv:2311.12092, DreamBooth arXiv:2208.12242.
"""

from __future__ import annotations

import math

from torch import Tensor


def noise_estimate(x: Tensor, picture: Tensor, sigma: Tensor) -> Tensor:
    """n = (x − x0)/σ of a denoised prediction, or, of the picture itself, what a model has to estimate.

    x, picture: [B, ...]; sigma: [B], above 0, in the model's own units. Of the picture it is ε where x = x0 + σ·ε, and
    ε − x0 for flow models.
    """
    return (x - picture) / sigma.reshape(-1, *[1] * (x.ndim - 1))


def text_target(neutral: Tensor, plus: Tensor, minus: Tensor, guidance: float, sign: float) -> Tensor:
    """What a slider makes of the neutral estimate at strength 1 or −1: equation 8 of Concept Sliders.

        n*(c_t) = n(c_t) ± η/|P|·Σ_p (n(c₊, p) − n(c₋, p))

    neutral: n(c_t), [B, ...]; plus, minus: of the poles with each of the |P| preserved texts, [P, B, ...]; guidance: η,
    finite and above 0; sign: 1 or −1. Departures: divided by |P|, so that η means the same however many are preserved;
    both signs (the authors' code trains +1 alone, their paper's dial is for both).
    """
    check_guidance(guidance)
    return neutral + sign * guidance * (plus - minus).mean(0)


def check_guidance(guidance: float) -> None:
    """Raises ValueError for an η that is no number above 0."""
    if not (math.isfinite(guidance) and guidance > 0):
        raise ValueError(f"guidance is {guidance}; it must be a number above 0 (usually 1 to 4)")


def of_size(target: Tensor, like: Tensor) -> Tensor:
    """A target with the length that another estimate has, picture by picture: a direction that is guided far makes an
    estimate longer than the model's own ever are. [B, ...], both of more than zeros."""
    axes = tuple(range(1, target.ndim))
    return target * (_length(like, axes) / _length(target, axes))


def _length(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    return values.float().square().sum(axes, keepdim=True).sqrt().to(values.dtype)


def squared_error(estimate: Tensor, target: Tensor) -> Tensor:
    """The mean over all elements, in float32; a gradient for the estimate alone."""
    return (estimate.float() - target.detach().float()).square().mean()


def slider_loss(at_plus: Tensor, at_minus: Tensor, target_plus: Tensor, target_minus: Tensor) -> Tensor:
    """Half of each sign's error. at_plus, at_minus: estimates for c_t by the model with the slider at 1 and −1, at the
    same x and σ (an antithetic pair: what does not depend on the sign is no gradient of a linear slider)."""
    return (squared_error(at_plus, target_plus) + squared_error(at_minus, target_minus)) / 2


def pair_loss(after: Tensor, before: Tensor, after_target: Tensor, before_target: Tensor) -> Tensor:
    """A pair of pictures with the same noise, the slider at +s on the one after the change and at −s on that before.

        r₊ = n(x_after; +s) − n_after    r₋ = n(x_before; −s) − n_before    loss = ‖(r₊ − r₋)/2‖²/N

    Equation 9 of Concept Sliders is ‖r₊‖² + ‖r₋‖² = 2·‖(r₊ − r₋)/2‖² + 2·‖(r₊ + r₋)/2‖². The second term is what both
    sides have in common, how these pictures differ from what the model paints; it is no part of the direction and is
    left out. All [B, ...]; the targets by `noise_estimate` of the pictures.
    """
    return squared_error(after - before, after_target - before_target) / 4


def prior_loss(
    instance: Tensor, instance_target: Tensor, prior: Tensor, prior_target: Tensor, prior_weight: float
) -> Tensor:
    """DreamBooth's equation 2: the subject's pictures, and λ times the class's, against forgetting what a class is.

        ‖n(x, c_instance) − n_x‖²/N + λ·‖n(x', c_class) − n_x'‖²/N

    A weight of 1 in these units is the paper's w_t = 1/σ² on x0. instance, prior: estimates, [B, ...] and [B', ...];
    targets: `noise_estimate` of the pictures, or for the class the frozen model's own estimates, which need no
    pictures; prior_weight: λ, 0 or more.
    """
    check_prior_weight(prior_weight)
    error = squared_error(instance, instance_target)
    return error if prior_weight == 0 else error + prior_weight * squared_error(prior, prior_target)


def check_prior_weight(prior_weight: float) -> None:
    """Raises ValueError for a λ that is no number of 0 or more."""
    if not (math.isfinite(prior_weight) and prior_weight >= 0):
        raise ValueError(f"prior_weight is {prior_weight}; it must be a number of 0 or more (the paper: 1)")
