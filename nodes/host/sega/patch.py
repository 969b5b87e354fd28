"""SEGA as a model patch: one OUTER_SAMPLE wrapper that serves every sampler node and guider.

At the start of a run it checks the input, puts the concepts into the guider's conditionings (so that the host loads,
encodes and cleans them up like its own), makes a fresh run state and registers that run's own wrapper (PREDICT_NOISE:
concepts are evaluated in the same batched call as positive and negative, the stock guidance runs, the edit term is
added). Nothing outlives the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..conditioning.concept import ConceptInput
from ..page.messages import message
from ..page.progress import show_text
from ..page.told import tell
from ..page.verdict import concept_input
from ..run.identity import ModelIdentity
from ..run.patches import add_outer_sample
from ..run.samplers import is_cfg_pp, takes_steps_back
from .report import at_rest
from .run import SEGA, SEGARun
from .settings import Page, SEGASettings, Steering
from .vectors import ConceptVectors, Recorder

logger = logging.getLogger("semantic_steering")


def patch_model(
    model: Any,
    concepts: tuple[ConceptInput, ...] | None,
    settings: SEGASettings,
    started: Callable[[SEGARun], None] | None = None,
    page: Page | None = None,
    vectors: bool = True,
) -> Any:
    """A clone of a MODEL that is steered by the concepts in every run. `started` is handed each run's state, which then
    keeps activity and, if asked for, vectors."""
    record = started is not None
    steering = Steering(tuple(concepts or ()), settings, page or Page(), record, record and vectors)
    patched = model.clone()
    if all(concept.neutral for concept in steering.concepts):
        show_text(at_rest(steering.concepts), steering.page.node)
        return patched

    def outer_sample(executor: Any, noise: Tensor, latent_image: Tensor, sampler: Any, sigmas: Tensor,
                     denoise_mask: Any = None, callback: Any = None, *args: Any, **kwargs: Any) -> Tensor:  # fmt: skip
        if settings.momentum_scale > 0 and takes_steps_back(sampler):
            raise ValueError(
                f"momentum_scale is {settings.momentum_scale:g} and the sampler dpm_adaptive, which tries steps and "
                "takes some of them back: momentum would follow these too. Set momentum_scale to 0, or choose another "
                "sampler"
            )
        shapes = kwargs.get("latent_shapes") or [latent_image.shape]
        run = SEGARun(executor.class_obj, steering, shapes, sigmas)
        if started is not None:
            started(run)
        if run.acting:
            if is_cfg_pp(sampler):
                run.report.notes.append(message("advice", advice=message("cfg_pp", input=concept_input("scale"))))
            run.register()
            run.go_on(latent_image, noise)
            callback = run.clock.wrap(callback)
        samples = executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs)
        if run.acting:
            run.clock.finish()
            samples = run.leave(samples)
        text = run.verdict(samples)
        logger.info("SEGA: %s", text.replace("\n", " "))
        show_text(text, steering.page.node)
        return tell(samples, text)

    add_outer_sample(patched, SEGA, outer_sample)
    return patched


def recorded(run: SEGARun | None, model: Any, shape: torch.Size, seed: int) -> ConceptVectors:
    """The vectors of a finished run that kept them (none: without concepts) on a latent of the given shape."""
    recorder = Recorder() if run is None or run.report.recorder is None else run.report.recorder
    described = [] if run is None else [acting.entry.description for acting in run.acting]
    return ConceptVectors(*recorder.result(shape), ModelIdentity.of(model), tuple(described), seed)
