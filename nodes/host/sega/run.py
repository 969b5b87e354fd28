"""The state of one sampling run that is steered by concepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ....guidance_core import Concept, HeldDirections, Phase, edit_term, needed, noise_difference
from ..conditioning.base import base_name, cfg_is_one
from ..conditioning.checks import check_latent, check_positive
from ..conditioning.concept import LARGEST_SCALE, ConceptInput
from ..conditioning.masks import latent_mask
from ..page.messages import Message, message
from ..page.progress import stop_if_cancelled
from ..page.verdict import IS_IT_THERE, LOWER_THRESHOLD, NO_STEP, RAISE_SCALE, START_EARLIER, Acted, window_message
from ..run.batched_call import count_in_run
from ..run.evolved_sampling import check_motion
from ..run.patches import OfOneRun, check_one_model
from ..run.step_clock import StepClock
from . import continuing
from .aimed import Aimed
from .call import ConceptCall
from .conditionings import RunConditionings
from .report import Finding, Report
from .settings import SEGA, Steering


@dataclass
class ActingConcept:
    """One concept of a run that can change something. place: among all that were given; entry: as its node was filled
    in; concept: in the model's noise levels; mask: its weights on the latent's cells, None everywhere."""

    place: int
    entry: ConceptInput
    concept: Concept
    mask: Tensor | None

    def told(self, levels: list[float], base: str, scales: tuple[float, float] | None) -> Acted:
        """What a verdict says of it, but for its edit's size. levels: the run's; base: what it was compared with;
        scales: the least and the largest one that it got for a wanted size."""
        entry, window = self.entry, self.concept.window
        evaluated = [level for level in levels[:-1] if level > 0]
        missed = NO_STEP
        if evaluated and all(window.phase(level) is Phase.AFTER for level in evaluated):
            missed = window_message("window_before")
        elif evaluated and all(window.phase(level) is Phase.BEFORE for level in evaluated):
            missed = window_message("window_after")
        ways = {
            RAISE_SCALE: not isinstance(entry.scale, tuple) and abs(entry.scale) < LARGEST_SCALE,
            LOWER_THRESHOLD: entry.threshold > 0,
            START_EARLIER: entry.window.start_percent > 0,
            IS_IT_THERE: not isinstance(entry.scale, tuple) and entry.scale < 0,
        }
        stronger = tuple(way for way, left in ways.items() if left)
        swept = isinstance(entry.scale, tuple)
        name = base.replace("_", " ").removesuffix(" prompt")
        return Acted(
            entry.title,
            window.steps(levels),
            None,
            swept,
            name,
            stronger,
            missed,
            entry.in_prompt,
            scales=scales,
            hints=entry.hints,
        )


def acting_concepts(entries: Sequence[ConceptInput], model: Any, shape: torch.Size) -> list[ActingConcept]:
    """Without the neutral ones, which do not count in the rule that momentum waits for all concepts either.

    Raises ValueError for masks and sweeps that do not fit a latent of this shape.
    """
    ratio = model.get_model_object("latent_format").temporal_downscale_ratio
    for entry in entries:
        entry.check_batch(shape[0])
    masks = [latent_mask(entry, shape, ratio) for entry in entries]
    sampling = model.get_model_object("model_sampling")
    return [
        ActingConcept(place, entry, entry.for_run(sampling), mask)
        for place, (entry, mask) in enumerate(zip(entries, masks, strict=True))
        if not entry.neutral and (mask is None or bool((mask > 0).any()))
    ]


class SEGARun(OfOneRun):
    """The state of one sampling run. Raises ValueError, before anything is loaded, for input that cannot be sampled.

    acting: the concepts that can change something; where guidance_core is asked, a concept is its place in this list.
    """

    def __init__(self, guider: Any, steering: Steering, latent_shapes: list[torch.Size], sigmas: Tensor):
        self.guider, self.steering, self.settings = guider, steering, steering.settings
        model = guider.model_patcher
        self.report = Report(steering, torch.Size(latent_shapes[0]), model.get_model_object("latent_format"))
        limited = any(entry.limited for entry in steering.concepts)
        check_one_model(guider, SEGA)
        check_motion(model, SEGA.name)
        check_positive(guider)
        check_latent(model, latent_shapes, pictures=limited or self.report.activity is not None)
        self.acting = acting_concepts(steering.concepts, model, torch.Size(latent_shapes[0]))
        self.concepts = [acting.concept for acting in self.acting]
        self.conds = RunConditionings(guider)
        self.bases = ["positive"] * len(self.acting)  # decided when the run begins
        levels = [float(sigma) for sigma in sigmas]
        # Where a run leaves noise in its latent the next one may take its momentum on.
        self.leaves_noise = 0 < levels[-1] < levels[0]
        self.last_sigma = 0.0 if self.leaves_noise else min((sigma for sigma in levels if sigma > 0), default=0.0)
        self.nu: dict[int, Tensor] = {}
        self.directions = HeldDirections(steering.settings.refresh)
        self.clock = StepClock(levels, self._commit)
        self.aimed = Aimed(self.settings.aim, self.concepts) if self.settings.aim else None
        self._finding: Finding | None = None

    def register(self) -> None:
        """Put the concepts and this run's wrapper into the guider, which keeps both for this run only."""
        guider = self.guider
        base = base_name(guider, self.settings.base)
        self.bases = ["positive" if acting.entry.in_prompt else base for acting in self.acting]
        self.report.guided = not cfg_is_one(guider) or any(base != "positive" for base in self.bases)
        self.conds.add([acting.entry for acting in self.acting], self.bases)
        count_in_run(guider.model_options)
        for kind, wrapper in (
            (WrappersMP.PREDICT_NOISE, self._predict_noise),
            (WrappersMP.CALC_COND_BATCH, self._calc_cond_batch),
        ):
            comfy.patcher_extension.add_wrapper_with_key(
                kind, self.conds.prefix, wrapper, guider.model_options, is_model_options=True
            )

    def go_on(self, latent: Tensor, noise: Tensor) -> None:
        """Begin with the momentum that came with the latent, where this run continues the one that left it."""
        if not self.settings.momentum_scale:
            return
        start = self.clock.levels[0]
        came = continuing.found(latent, noise, self.steering, start)
        if came is not None:
            by_place = {acting.place: i for i, acting in enumerate(self.acting)}
            self.nu = {by_place[place]: nu.to(latent.device) for place, nu in came.items()}
        elif not bool(noise.any()) and any(each.window.phase(start) is Phase.INSIDE for each in self.concepts):
            self.report.notes.append(message("momentum_anew"))

    def leave(self, samples: Tensor) -> Tensor:
        """Have the momentum travel with the result of a run that may be continued."""
        if not (self.settings.momentum_scale and self.leaves_noise):
            return samples
        nu = {self.acting[i].place: nu for i, nu in self.nu.items()}
        return continuing.leave(samples, self.steering, self.clock.levels[-1], nu)

    def verdict(self, result: Tensor | None = None) -> Message:
        """What the finished run did, for people. result: its samples."""
        active = {
            acting.place: acting.told(self.clock.levels, base, self.aimed.scales(i) if self.aimed else None)
            for i, (acting, base) in enumerate(zip(self.acting, self.bases, strict=True))
        }
        again = [
            message("base_again", base=name.replace("_", " "), keys=", ".join(sorted(keys)).replace("_", " "))
            for name, keys in self.conds.apart.items()
        ]
        return self.report.verdict(active, len(self.clock.levels) - 1, again, result)

    def _predict_noise(
        self, executor: Any, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: Any = None
    ) -> Tensor:
        """The stock guidance's denoised prediction minus σ·Σγ."""
        model_options = model_options or {}
        stop_if_cancelled()  # samplers look at each of their steps only
        sigma = float(timestep.flatten()[0])
        step = self.clock.evaluate(sigma)
        length = self.clock.length(step)
        self.report.evaluations.begin()
        indices = needed(self.concepts, sigma, self.settings.momentum, self.last_sigma) if sigma > 0 else []
        stale = self.directions.stale(indices, step)
        if not indices:
            denoised = executor(x, timestep, model_options, seed)
            self._note(sigma, Finding({}, {}, length, denoised, denoised))
            return denoised
        fresh: dict[int, Tensor] = {}
        if stale:
            call = ConceptCall(self.conds, stale, self.report.evaluations, model_options)
            before = executor(x, timestep, call.within(model_options), seed)
            # A guider that makes its own calls (DualCFG, PerpNeg) never reached it: one more, batched.
            found = call.estimates or call.evaluate_alone(self.guider.inner_model, x, timestep, model_options)
            fresh = {i: noise_difference(found.concepts[i], found.bases[i], sigma) for i in stale}
        else:
            before = executor(x, timestep, model_options, seed)
        differences = self.directions.completed(fresh, indices, step)
        concepts = self.aimed.concepts if self.aimed else self.concepts
        gamma, following = edit_term(
            differences, concepts, sigma, self.settings.momentum, self.nu, self.settings.threshold_over,
            self._masks(x.device),
        )  # fmt: skip
        if self.aimed:
            gamma = self.aimed.sized(gamma, sigma, before)
        after = before
        for term in gamma.values():
            after = after - sigma * term
        by_place = {self.acting[i].place: term for i, term in gamma.items()}
        self._note(sigma, Finding(by_place, following, length, before, after))
        return after

    def _calc_cond_batch(self, executor: Any, model: Any, conds: list, *args: Any, **kwargs: Any) -> list[Tensor]:
        """What the guider evaluates where no concept is in its call, for the verdict."""
        self.report.evaluations.count_own(self.conds.foreign(conds))
        return executor(model, conds, *args, **kwargs)

    def _masks(self, device: torch.device) -> dict[int, Tensor]:
        for acting in self.acting:
            acting.mask = None if acting.mask is None else acting.mask.to(device)
        return {i: acting.mask for i, acting in enumerate(self.acting) if acting.mask is not None}

    def _note(self, sigma: float, finding: Finding) -> None:
        """What one evaluation adds; it counts once its step is committed."""
        self._finding = finding
        self.report.note(sigma, finding)

    def _commit(self) -> None:
        """A sampler step is over: its last evaluation's momentum becomes the run's, what ended is discarded."""
        finding, self._finding = self._finding, None
        if finding is not None:
            self.nu = finding.nu
            self.report.commit(finding)
