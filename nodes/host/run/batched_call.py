"""One call for all estimates of a model evaluation: the place that the host's guidance asks, and what the pack adds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import comfy.patcher_extension
import comfy.samplers
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..conditioning.attention_patches import has_image_prompt
from .evolved_sampling import guidance_is_replaced
from .patches import PREFIX, OfOneRun, added_conditionings

# What the host's guidance calls for its estimates, in model_options.
SLOT = "sampler_calc_cond_batch_function"
COUNT_KEY = f"{PREFIX}run.count"
CALL_KEY = f"{PREFIX}run.call"


def estimates(args: dict) -> list[Tensor]:
    """The host's own batched evaluation of all conditionings, called as it calls what stands in SLOT."""
    return comfy.samplers.calc_cond_batch(
        args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
    )


class BatchedCall(OfOneRun):
    """Stands in the SLOT for one evaluation, adds conditionings to those it is asked for, and keeps their estimates.

    What stood there before is called: another patch that adds its own to the same call. Positive stays at index 0 and
    negative at 1, because other packs rely on it.
    """

    def __init__(self, model_options: dict):
        self.previous = model_options.get(SLOT, estimates)
        self.reached = False

    def within(self, model_options: dict) -> dict:
        """Model options with this call in the slot, and before all else where another guidance asks past it."""
        options = {**model_options, SLOT: self}
        if guidance_is_replaced():
            options["transformer_options"] = transformer = {**options.get("transformer_options", {})}
            transformer["wrappers"] = wrappers = {**transformer.get("wrappers", {})}
            others = dict(wrappers.get(WrappersMP.CALC_COND_BATCH, {}))
            first = [self._past_the_slot, *others.pop(CALL_KEY, [])]
            wrappers[WrappersMP.CALC_COND_BATCH] = {CALL_KEY: first, **others}
        return options

    def _past_the_slot(
        self, executor: Any, model: Any, conds: list, x: Tensor, timestep: Tensor, model_options: dict
    ) -> list[Tensor]:
        if self.reached or len(conds) != 2:
            return executor(model, conds, x, timestep, model_options)
        return self({"conds": conds, "input": x, "sigma": timestep, "model": model, "model_options": model_options})

    def __call__(self, args: dict) -> list[Tensor]:
        raise NotImplementedError

    def evaluate(
        self, args: dict, conds: list, added: Sequence[tuple[list[dict], int]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The estimates of `conds` and of what is `added`, all in one call.

        added: conditionings, each with the place (0 or 1) of what it is compared with. Image prompts know no other
        index than positive's and negative's: beside them each of the added has a call of its own, in its place.
        """
        if has_image_prompt(args["model_options"]):
            own = self.asked(args, conds)
            return own, [self.asked(args, [[cond, None], [None, cond]][place])[place] for cond, place in added]
        out = self.asked(args, [*conds, *(cond for cond, _ in added)])
        if len(out) == len(conds):
            # What stood in the slot knows two places only: a call for each of the added, in its place.
            swapped = [([*conds[:place], cond, *conds[place + 1 :]], place) for cond, place in added]
            return out, [self.asked(args, each)[place] for each, place in swapped]
        if len(out) != len(conds) + len(added):
            raise ValueError(
                f"another node's function for the model's estimates (sampler_calc_cond_batch_function) gave {len(out)} "
                f"for the {len(conds) + len(added)} conditionings that it was asked for: SEGA and InstructPix2Pix "
                "Guider cannot act beside it. Remove that node from this model"
            )
        return out[: len(conds)], out[len(conds) :]

    def asked(self, args: dict, conds: list) -> list[Tensor]:
        """The estimates of `conds`, from what stood in the slot before."""
        self.reached = True
        return self.previous({**args, "conds": conds})


def counted(batch: int, conds: Mapping[str, Any]) -> int:
    """Pictures to plan memory for: the host counts two conditionings a picture; what the pack adds comes on top."""
    return batch + math.ceil(batch * added_conditionings(conds) / 2)


def count_added(executor: Any, model: Any, noise_shape: Any, conds: dict, *args: Any, **kwargs: Any) -> Any:
    """PREPARE_SAMPLING: the host's memory estimate counts what the pack adds."""
    return executor(model, [counted(noise_shape[0], conds), *noise_shape[1:]], conds, *args, **kwargs)


def count_in_run(model_options: dict) -> None:
    """Have the estimate of one run count what the pack adds, once, however many patches ask for it."""
    kind = WrappersMP.PREPARE_SAMPLING
    if not comfy.patcher_extension.get_wrappers_with_key(kind, COUNT_KEY, model_options, is_model_options=True):
        comfy.patcher_extension.add_wrapper_with_key(kind, COUNT_KEY, count_added, model_options, is_model_options=True)
