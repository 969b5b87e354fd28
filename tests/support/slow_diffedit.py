"""DiffEdit's mask and its masked decode once more: numpy, float64, loops. Shares nothing with the code under test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

Slope = Callable[[np.ndarray, float], np.ndarray]


def difference_map(differences: np.ndarray, batch: int) -> np.ndarray:
    """mean |Δn| over maps and channels of [n·B, C, S...], in which picture b of map k is row k·B + b."""
    rows, channels, *space = differences.shape
    maps = rows // batch
    out = np.zeros((batch, *space))
    for b in range(batch):
        for place in itertools.product(*(range(n) for n in space)):
            values = [abs(float(differences[(k * batch + b, c, *place)])) for k in range(maps) for c in range(channels)]
            out[(b, *place)] = sum(values) / (maps * channels)
    return out


def heatmap(difference: np.ndarray, clamp: float) -> np.ndarray:
    """Each picture cut off at clamp × its own mean, then divided by that; 0 where nothing differs."""
    out = np.zeros(difference.shape)
    for b, picture in enumerate(np.asarray(difference, dtype=np.float64)):
        limit = clamp * sum(picture.flat) / picture.size
        if limit > 0:
            for place in itertools.product(*(range(n) for n in picture.shape)):
                out[(b, *place)] = min(picture[place], limit) / limit
    return out


def mask(difference: np.ndarray, clamp: float, threshold: float) -> np.ndarray:
    """The rule said directly: in, if and only if m > threshold · clamp · mean m."""
    out = np.zeros(difference.shape)
    for b, picture in enumerate(np.asarray(difference, dtype=np.float64)):
        out[b] = picture > threshold * clamp * picture.mean()
    return out


def euler(slope: Slope, x: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    for sigma, following in itertools.pairwise(sigmas):
        x = x + (following - sigma) * slope(x, sigma)
    return x


def masked_decode(
    slope: Slope, trajectory: Sequence[np.ndarray], sigmas: Sequence[float], weights: np.ndarray
) -> np.ndarray:
    """Euler from the noisiest state; after the step to level i + 1, place by place, w·x + (1 − w)·z_{i+1}."""
    x = trajectory[0].copy()
    weights = np.broadcast_to(weights, x.shape)
    for i in range(len(sigmas) - 1):
        x = x + (sigmas[i + 1] - sigmas[i]) * slope(x, sigmas[i])
        for place in itertools.product(*(range(n) for n in x.shape)):
            w = weights[place]
            x[place] = w * x[place] + (1 - w) * trajectory[i + 1][place]
    return x
