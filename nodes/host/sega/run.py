"""SEGA as a model patch: one OUTER_SAMPLE wrapper that serves every sampler node and guider.

At the start of a run it checks the input, puts the concepts into the guider's conditionings (so that the host loads,
encodes and cleans them up like its own), makes a fresh run state and registers that run's own wrappers:
PREPARE_SAMPLING (the memory estimate counts the concepts) and PREDICT_NOISE (concepts are evaluated in the same
batched call as positive and negative, the stock guidance runs, the edit term is added). Nothing outlives the run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import comfy.sampler_helpers
import torch
from comfy.patcher_extension import WrappersMP
from PIL import Image
from torch import Tensor

from ....guidance_core import EditMeasure, HeldDirections, Momentum, edit_term, energy, needed, noise_difference
from ..conditioning import inherit as conditioning
from ..conditioning.concept import ConceptInput, SEGASettings
from ..conditioning.masks import latent_mask
from ..page.previews import activity_tiles, latent_colours, one_frame
from ..page.progress import show_preview, show_verdict, stop_if_cancelled
from ..page.verdict import Acted, Evaluations, verdict
from ..run.identity import ModelIdentity
from ..run.patches import add_outer_sample
from ..run.step_clock import StepClock
from .activity import Activity
from .vectors import ConceptVectors, Recorder

logger = logging.getLogger("semantic_steering")

KEY = "semantic_steering.sega"
# Where the host's guidance expects each conditioning's estimate.
OWN_INDEX = {"positive": 0, "negative": 1, "empty_negative_prompt": 1}


@dataclass(frozen=True)
class Page:
    """Where a run's verdict is shown: the id of a node (None: the one that is being executed); live: whether that node
    shows the activity at every step."""

    node: str | None = None
    live: bool = False


def patch_model(
    model: Any,
    concepts: tuple[ConceptInput, ...] | None,
    settings: SEGASettings,
    started: Callable[[SEGARun], None] | None = None,
    page: Page | None = None,
) -> Any:
    """A clone of a MODEL that is steered by the concepts in every run. `started` is handed each run's state, which then
    keeps activity and vectors."""
    page = page or Page()
    momentum = Momentum(settings.momentum_scale, settings.momentum_beta)
    patched = model.clone()
    concepts = concepts or ()
    if all(concept.neutral for concept in concepts):
        if concepts:
            show_verdict(verdict([Acted(entry.title) for entry in concepts], 0, Evaluations(), True), page.node)
        return patched

    def outer_sample(executor: Any, noise: Tensor, latent_image: Tensor, sampler: Any, sigmas: Tensor,
                     denoise_mask: Any = None, callback: Any = None, *args: Any, **kwargs: Any) -> Tensor:  # fmt: skip
        shapes = kwargs.get("latent_shapes") or [latent_image.shape]
        run = SEGARun(executor.class_obj, concepts, settings, momentum, shapes, sigmas, page, started is not None)
        if started is not None:
            started(run)
        if run.concepts:
            run.register()
            callback = run.clock.wrap(callback)
        samples = executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
        if run.concepts:
            run.clock.finish()
        text = run.verdict()
        logger.info("SEGA: %s", text.replace("\n", " "))
        show_verdict(text, page.node)
        return samples

    add_outer_sample(patched, KEY, outer_sample, "SEGA")
    return patched


def recorded(run: SEGARun | None, model: Any, shape: torch.Size, seed: int) -> ConceptVectors:
    """The vectors of a finished run that kept them (none: without concepts) on a latent of the given shape."""
    recorder = Recorder() if run is None or run.recorder is None else run.recorder
    described = [] if run is None else [entry.description for entry in run.inputs]
    return ConceptVectors(*recorder.result(shape), ModelIdentity.of(model), tuple(described), seed)


class SEGARun:
    """The state of one sampling run. record: keep the activity maps and γ for the node that asked.

    Raises ValueError, before anything is loaded, for input that cannot be sampled.
    """

    def __init__(
        self,
        guider: Any,
        inputs: tuple[ConceptInput, ...],
        settings: SEGASettings,
        momentum: Momentum,
        latent_shapes: list[torch.Size],
        sigmas: Tensor,
        page: Page,
        record: bool = False,
    ):
        maps = record or (page.live and len(latent_shapes[0]) >= 4)  # sound has no picture to show it over
        conditioning.check_guider(guider)
        conditioning.check_latent(guider, latent_shapes, pictures=maps or any(entry.limited for entry in inputs))
        shape = torch.Size(latent_shapes[0])
        ratio = guider.model_patcher.get_model_object("latent_format").temporal_downscale_ratio
        for entry in inputs:
            entry.check_batch(shape[0])
        masks = [latent_mask(entry, shape, ratio) for entry in inputs]
        # Neutral concepts are dropped, also from the rule that momentum waits for all concepts.
        kept = [
            position
            for position, (entry, mask) in enumerate(zip(inputs, masks, strict=True))
            if not entry.neutral and (mask is None or bool((mask > 0).any()))
        ]
        self.guider, self.settings, self.momentum, self.page = guider, settings, momentum, page
        self.shape, self.given, self.kept = shape, inputs, kept
        self.inputs = [inputs[position] for position in kept]
        self.masks = {i: mask for i, position in enumerate(kept) if (mask := masks[position]) is not None}
        model_sampling = guider.model_patcher.get_model_object("model_sampling")
        self.concepts = [entry.for_run(model_sampling) for entry in self.inputs]
        levels = [float(sigma) for sigma in sigmas]
        self.last_sigma = min((sigma for sigma in levels if sigma > 0), default=0.0)
        self.nu: dict[int, Tensor] = {}
        self.directions = HeldDirections(settings.refresh)
        self.activity = Activity(kept, len(inputs)) if maps else None
        self.recorder = Recorder() if record else None
        self.measure, self.evaluations, self.guided = EditMeasure(), Evaluations(), True
        self.clock = StepClock(levels, self._commit)
        self._candidate: _Candidate | None = None
        self._reference: Tensor | None = None
        self._prefix = f"{KEY}.{sum(key.startswith(KEY) for key in guider.conds)}"

    def register(self) -> None:
        """Put the concepts and this run's wrappers into the guider, which keeps both for this run only."""
        guider = self.guider
        self.guided = conditioning.is_guided(guider, conditioning.base_name(guider, self.settings.base))
        conds = [conditioning.concept_conds(entry, guider.conds["positive"]) for entry in self.inputs]
        for entry, cond in zip(self.inputs, conds, strict=True):
            conditioning.check_width(entry, cond, guider.conds["positive"])
        for i, cond in enumerate(conds):
            guider.conds[self.concept_key(i)] = cond
        for name in conditioning.bases_to_copy(guider):
            guider.conds[self.whole_key(name)] = conditioning.without_restrictions(guider.conds[name])
        for kind, wrapper in (
            (WrappersMP.PREPARE_SAMPLING, self._prepare_sampling),
            (WrappersMP.PREDICT_NOISE, self._predict_noise),
        ):
            comfy.patcher_extension.add_wrapper_with_key(
                kind, self._prefix, wrapper, guider.model_options, is_model_options=True
            )

    def verdict(self) -> str:
        """What the finished run did, for people. Waits for the device once."""
        sizes = self.measure.sizes()
        acted = [Acted(entry.title) for entry in self.given]
        for i, (position, concept) in enumerate(zip(self.kept, self.concepts, strict=True)):
            entry, steps = self.given[position], concept.window.steps(self.clock.levels)
            acted[position] = Acted(entry.title, steps, sizes.get(i), isinstance(entry.scale, tuple))
        return verdict(acted, len(self.clock.levels) - 1, self.evaluations, self.guided)

    def concept_key(self, i: int) -> str:
        return f"{self._prefix}.concept.{i}"

    def whole_key(self, name: str) -> str:
        return f"{self._prefix}.whole.{name}"

    def _prepare_sampling(self, executor: Any, model: Any, noise_shape: Any, *args: Any, **kwargs: Any) -> Any:
        """The host counts two conditionings a picture; the concepts come on top."""
        extra = len(self.concepts) + sum(key.startswith(f"{self._prefix}.whole.") for key in self.guider.conds)
        batch = noise_shape[0] + math.ceil(self.shape[0] * extra / 2)
        return executor(model, [batch, *noise_shape[1:]], *args, **kwargs)

    def _predict_noise(
        self, executor: Any, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: Any = None
    ) -> Tensor:
        """The stock guidance's denoised prediction minus σ·Σγ."""
        model_options = model_options or {}
        stop_if_cancelled()  # samplers look at each of their steps only
        sigma = float(timestep.flatten()[0])
        step = self.clock.evaluate(sigma)
        self.evaluations.levels += 1
        indices = needed(self.concepts, sigma, self.momentum, self.last_sigma) if sigma > 0 else []
        stale = self.directions.stale(indices, step)
        if not indices:
            self._note(sigma, _Candidate({}, {}))
            return executor(x, timestep, model_options, seed)
        fresh: dict[int, Tensor] = {}
        if stale:
            base_name = conditioning.base_name(self.guider, self.settings.base)
            call = _BatchedCall(self, base_name, stale, model_options.get(conditioning.SLOT, conditioning.estimates))
            options = {**model_options, conditioning.SLOT: call}
            denoised = executor(x, timestep, options, seed)
            # A guider that makes its own calls (DualCFG, PerpNeg) never reached it: one more, batched.
            base, estimates = call.estimates or call.evaluate_alone(self.guider.inner_model, x, timestep, model_options)
            fresh = {i: noise_difference(estimates[i], base, sigma) for i in stale}
            self._reference = energy(noise_difference(denoised, base if self.guided else x, sigma))
        else:
            denoised = executor(x, timestep, model_options, seed)
        differences = self.directions.completed(fresh, indices, step)
        self.masks = {i: mask.to(x.device) for i, mask in self.masks.items()}
        gamma, following = edit_term(
            differences, self.concepts, sigma, self.momentum, self.nu, self.settings.threshold_over, self.masks
        )
        self._note(sigma, _Candidate(gamma, following, denoised))
        for term in gamma.values():
            denoised = denoised - sigma * term
        return denoised

    def _note(self, sigma: float, candidate: _Candidate) -> None:
        """What one evaluation adds; it counts once its step is committed."""
        self._candidate = candidate
        if self.recorder is not None and sigma > 0:
            self.recorder.add(sigma, candidate.gamma)

    def _commit(self) -> None:
        """A sampler step is over: its last evaluation's momentum becomes the run's, what ended is discarded."""
        candidate, self._candidate = self._candidate, None
        if candidate is None:
            return
        self.nu = candidate.nu
        if self._reference is not None:  # while directions are held, that of the evaluation they are from
            self.measure.add(candidate.gamma, self._reference)
        if self.activity is not None:
            self.activity.add(candidate.gamma)
            if self.page.live and candidate.denoised is not None:
                self._show_activity(self.activity, candidate.denoised)

    def _show_activity(self, activity: Activity, denoised: Tensor) -> None:
        """The tiles so far over the first picture, under the page's node."""
        if self.page.node is None:
            return
        layout = self.guider.model_patcher.get_model_object("latent_format")
        maps = activity.maps(self.shape, (self.shape[-2], self.shape[-1]))[: len(self.given)]
        picture = latent_colours(layout, one_frame(denoised[:1]).cpu().float())
        tiles = activity_tiles(picture, maps, [entry.title for entry in self.given])
        show_preview(Image.fromarray((tiles[0] * 255).round().byte().numpy()), self.page.node)


@dataclass(frozen=True)
class _Candidate:
    """What one evaluation found: γ, the momentum that would follow, and the guider's prediction."""

    gamma: dict[int, Tensor]
    nu: dict[int, Tensor]
    denoised: Tensor | None = None


class _BatchedCall:
    """Stands in the guider's calc_cond_batch for one evaluation: appends the concepts (and the base, where the guider
    does not evaluate it whole) to the conditionings, keeps their estimates, and returns the guider only its own.

    Positive stays at index 0 and negative at 1: other packs rely on it. Image prompts know no other index; beside them
    each concept has a call of its own, in the base's place.
    """

    def __init__(self, run: SEGARun, base: str, indices: list[int], previous: Callable[[dict], list[Tensor]]):
        self.run, self.base, self.indices, self.previous = run, base, indices, previous
        self.estimates: tuple[Tensor, dict[int, Tensor]] | None = None
        self.alone = False

    def __call__(self, args: dict) -> list[Tensor]:
        conds = list(args["conds"])
        if self.estimates is not None:
            return self._calculate(args, conds)
        guider_conds = self.run.guider.conds
        whole = guider_conds.get(self.run.whole_key(self.base))
        place = OWN_INDEX[self.base]
        own = whole is None and place < len(conds) and conds[place] is not None  # the guider evaluates the base itself
        added = [] if own else [guider_conds[self.base] if whole is None else whole]
        added += [guider_conds[self.run.concept_key(i)] for i in self.indices]
        # Another SEGA Guidance on the same model has added its own before.
        others = [cond for key, cond in guider_conds.items() if key.startswith(KEY)]
        self._count(sum(cond is not None and not any(cond is other for other in others) for cond in conds), len(added))
        if conditioning.has_image_prompt(args["model_options"]):
            out = self._calculate(args, conds)
            rest = [self._calculate(args, [[cond, None], [None, cond]][place])[place] for cond in added]
        else:
            out = self._calculate(args, conds + added)
            rest = out[len(conds) :]
        concepts = rest[-len(self.indices) :]
        self.estimates = (out[place] if own else rest[0], dict(zip(self.indices, concepts, strict=True)))
        return out[: len(conds)]

    def evaluate_alone(
        self, model: Any, x: Tensor, timestep: Tensor, model_options: dict
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """One call of its own, with nothing for the guider in it but the base at its usual index."""
        self.alone = True
        conds: list = [None, None]
        if self.run.whole_key(self.base) not in self.run.guider.conds:
            conds[OWN_INDEX[self.base]] = self.run.guider.conds[self.base]
        self({"conds": conds, "input": x, "sigma": timestep, "model": model, "model_options": model_options})
        assert self.estimates is not None  # the call above sets them
        return self.estimates

    def _count(self, asked: int, added: int) -> None:
        evaluations = self.run.evaluations
        if self.alone:
            evaluations.added += asked + added
        else:
            evaluations.own, evaluations.added = asked, evaluations.added + added

    def _calculate(self, args: dict, conds: list) -> list[Tensor]:
        return self.previous({**args, "conds": conds})
