"""SEGA: semantic guidance (Brack et al., 2023, arXiv:2301.12247), equations 3 to 10.

Also known as: semantic guidance, edit guidance. Not to be confused with classifier-free guidance, which it is added
to: x0 = CFG(x0_text, x0_uncond) − σ·Σγ, and with prompt weighting, which moves the prompt's own embedding.

All terms live in noise-estimate units (`noise_difference`), so one formula serves eps, v-prediction, EDM and flow
models and the momentum is comparable across steps.

The paper's g_i (eq. 9) and the reference's `edit_weights` are the same number as the scale here: the threshold
does not change with the scale and the momentum is linear in it. So there is no separate weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .devices import few_to
from .quantile import sample_quantile
from .windows import Phase, SigmaWindow

# What a concept's threshold is taken over: see keep_strongest.
THRESHOLD_OVER = ("channel", "latent", "position")


@dataclass(frozen=True)
class Concept:
    """What one edit direction does. scale: s_e with the direction's sign (negative = away from the concept), one for
    the whole batch or a tuple with one for each picture; threshold: λ in [0, 1], the share of positions left alone;
    window: when it acts.

    Raises ValueError for a scale that is not finite or a threshold outside [0, 1].
    """

    scale: float | tuple[float, ...]
    threshold: float
    window: SigmaWindow

    def __post_init__(self) -> None:
        for scale in self.scale if isinstance(self.scale, tuple) else (self.scale,):
            if not math.isfinite(scale):
                raise ValueError(f"scale is {scale}; it must be a finite number (usually 3 to 10)")
        if not (math.isfinite(self.threshold) and 0.0 <= self.threshold <= 1.0):
            raise ValueError(f"threshold is {self.threshold}; it must be a number from 0 to 1 (the paper: 0.9 to 0.99)")

    def scales(self, batch: int) -> tuple[float, ...]:
        """The scale of each picture of a batch. Raises ValueError where it is a tuple of another length."""
        found = self.scale if isinstance(self.scale, tuple) else (self.scale,) * batch
        if len(found) != batch:
            raise ValueError(f"scale has {len(found)} numbers for a batch of {batch}; it must be one, or one a picture")
        return found


@dataclass(frozen=True)
class Momentum:
    """s_m in [0, 1] and β in [0, 1) of equations 7 and 8. Raises ValueError outside."""

    scale: float = 0.0
    beta: float = 0.4

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and 0.0 <= self.scale <= 1.0):
            raise ValueError(f"momentum_scale is {self.scale}; it must be a number from 0 to 1 (the paper: 0 to 0.5)")
        if not (math.isfinite(self.beta) and 0.0 <= self.beta < 1.0):
            raise ValueError(f"momentum_beta is {self.beta}; it must be at least 0 and below 1 (the paper: 0.4 to 0.8)")


def noise_difference(denoised: Tensor, base: Tensor, sigma: float) -> Tensor:
    """Δn = −(x0_a − x0_b)/σ: what two denoised predictions differ by in noise-estimate units.

    Equals Δε for eps, v-prediction and EDM models and Δv for flow models. σ > 0 in the model's own units.
    """
    return (base - denoised) / sigma


def needed(concepts: Sequence[Concept], sigma: float, momentum: Momentum, last_sigma: float) -> list[int]:
    """The concepts whose estimate at σ can still change the result: those inside their window, and before it those
    whose momentum will be used, that is, which are still active once all concepts are warm (eq. 10).

    last_sigma: the lowest σ the run evaluates.
    """
    batch = next((len(concept.scale) for concept in concepts if isinstance(concept.scale, tuple)), 1)
    found: set[int] = set()
    for counting in _counting(concepts, batch):
        all_warm = min((concepts[i].window.start for i in counting), default=0.0)
        reached = all(concepts[i].window.phase(last_sigma) is not Phase.BEFORE for i in counting)
        momentum_counts = momentum.scale > 0 and reached
        for i in counting:
            phase, end = concepts[i].window.phase(sigma), concepts[i].window.end
            if phase is Phase.INSIDE or (phase is Phase.BEFORE and momentum_counts and end < all_warm):
                found.add(i)
    return sorted(found)


def _counting(concepts: Sequence[Concept], batch: int) -> list[list[int]]:
    """For each picture of a batch the concepts that count there: those whose scale is not 0."""
    scales = [concept.scales(batch) for concept in concepts]
    return [[i for i, row in enumerate(scales) if row[picture] != 0] for picture in range(batch)]


def keep_strongest(psi: Tensor, thresholds: Tensor, over: str = "channel", region: Tensor | None = None) -> Tensor:
    """μ(ψ)/s_e · ψ of equations 4 and 6: ψ where |ψ| ≥ η_λ(|ψ|), else 0.

    psi: [K, B, C, ...]; thresholds: λ, float64 [K]; over: "channel" takes the quantile per (sample, channel) over all
    remaining axes incl. time, as the reference does, "latent" over the whole sample, as the paper states, "position" of
    the norm over the channels, so that all channels keep the same positions (ours);
    region: bool, broadcastable to psi: only its elements count and are kept, the rest is 0. With "position" a region
    of one channel.
    """
    if over not in THRESHOLD_OVER:
        raise ValueError(f"threshold_over is {over!r}; it must be one of {', '.join(THRESHOLD_OVER)}")
    first = 3 if over == "channel" else 2
    magnitude = psi.float().norm(dim=2, keepdim=True) if over == "position" else psi.abs().float()
    q = thresholds.reshape(-1, *[1] * (first - 1))
    if region is not None:
        region = region.expand(magnitude.shape)
    eta = sample_quantile(magnitude.flatten(first), q, None if region is None else region.flatten(first))
    keep = magnitude >= eta.reshape(*eta.shape, *[1] * (psi.ndim - first))
    if region is not None:
        keep = keep & region
    return torch.where(keep, psi, torch.zeros((), dtype=psi.dtype, device=psi.device))


def edit_term(
    differences: Mapping[int, Tensor],
    concepts: Sequence[Concept],
    sigma: float,
    momentum: Momentum,
    nu: Mapping[int, Tensor],
    over: str = "channel",
    masks: Mapping[int, Tensor] | None = None,
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """The guidance terms γ of one model evaluation and the momentum ν that would follow it.

    For each concept i with an estimate, ψ_i = Δn_i and (equations 4 to 10, per concept):
        γ_i = s_i · keep(ψ_i) · mask_i + s_m · ν_i        ν_i' = β·ν_i + (1 − β)·γ_i
    Added are the γ_i of the concepts inside their window; the term s_m·ν_i only once all are warm. A concept of scale 0
    does not count there. With a scale for each picture all of this holds picture by picture.

    differences: {concept: Δn [B, C, ...]} for the concepts of `needed`; nu: {concept: ν} committed so far (absent = 0);
    masks: {concept: weights in [0, 1], [B or 1, 1, ...]}: ψ is thresholded where they are > 0, then weighted.
    Returns ({concept: γ to add}, {concept: ν'}). A concept past its end is in neither: its ν is discarded.
    Raises ValueError for a number of scales that is not the batch's.

    Departures from the reference (diffusers' SemanticStableDiffusionPipeline):
    - While only some concepts are warm the reference divides by their number, which makes a jump when the next one
      warms up and gives NaN when a warm one has cooled down; here it is the paper's plain sum.
    - ν is kept per concept. The recursion is linear, so the sum equals the reference's shared vector while all are
      active, and a concept that ends leaves no decaying rest behind.
    """
    indices = list(differences)
    if not indices:
        return {}, {}
    psi = torch.stack([differences[i] for i in indices])
    thresholds = torch.tensor([concepts[i].threshold for i in indices], dtype=torch.float64)
    batch, ones = psi.shape[1], [1] * (psi.ndim - 2)
    scales = torch.tensor([concepts[i].scales(batch) for i in indices], dtype=psi.dtype)
    weights = None
    if masks:
        whole = torch.ones((), dtype=psi.dtype, device=psi.device)
        weights = torch.stack([masks.get(i, whole).to(psi).expand(batch, 1, *psi.shape[3:]) for i in indices])
    edits = keep_strongest(psi, thresholds, over, None if weights is None else weights > 0)
    edits = edits * few_to(scales, psi.device).reshape(*scales.shape, *ones)
    if weights is not None:
        edits = edits * weights
    inside = [i for i in indices if concepts[i].window.phase(sigma) is Phase.INSIDE]
    plain = dict(zip(indices, edits.unbind(), strict=True))
    if momentum.scale == 0:
        return {i: plain[i] for i in inside}, {}
    driven = {i: plain[i] + momentum.scale * nu[i] if i in nu else plain[i] for i in indices}
    following = {
        i: momentum.beta * nu[i] + (1 - momentum.beta) * driven[i] if i in nu else (1 - momentum.beta) * driven[i]
        for i in indices
    }
    before = {i for i, concept in enumerate(concepts) if concept.window.phase(sigma) is Phase.BEFORE}
    warm = [before.isdisjoint(counting) for counting in _counting(concepts, batch)]
    if len(set(warm)) == 1:  # without a sweep always: nothing has to be copied to the device
        return {i: driven[i] if warm[0] else plain[i] for i in inside}, following
    rows = few_to(torch.tensor(warm), psi.device).reshape(-1, *ones)
    return {i: torch.where(rows, driven[i], plain[i]) for i in inside}, following
