"""Stand-ins for nodes of public packs: each does to the host what the pack's source does, and no more.

Named with the repository and the version that was read.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import pytest
import torch
from torch import Tensor

# The rows of docs/compatibility.md beside other packs.
EVOLVED = "AnimateDiff-Evolved d8d163c: contexts, motion"
SCHEDULED_CFG = "KJNodes 3f20054: Scheduled CFG Guidance"
SKIMMED = "Skimmed CFG 2712803"
TILED = "TiledDiffusion a155b1b: MultiDiffusion"
CACHES = {"EasyCache": "ComfyUI's EasyCache", "LazyCache": "ComfyUI's LazyCache", "TeaCache": "TeaCache 91dff8e"}


def beside(row: str | None = None, feature: str | None = None) -> Any:
    """The mark of a cell in that table, or of its row or column."""
    found = {"table": "beside other packs", "row": row, "feature": feature}
    return pytest.mark.compat(**{name: value for name, value in found.items() if value is not None})


def skimmed_cfg(model: Any, write: bool = True) -> Any:
    """Extraltodeus/Skimmed_CFG 2712803: a pre-CFG function that writes into the estimates it is given.

    write: False computes the same on copies.
    """

    def skim(x: Tensor, cond: Tensor, uncond: Tensor, scale: float, skimming: float) -> Tensor:
        denoised = x - ((x - uncond) + scale * ((x - cond) - (x - uncond)))
        signs = (cond - uncond).sign() == cond.sign()
        after = cond.sign() == (cond * scale - uncond * (scale - 1)).sign()
        outer = signs & after & (denoised.sign() == (denoised - x).sign())
        low = x - ((x - uncond) + skimming * ((x - cond) - (x - uncond)))
        cond[outer] = cond[outer] - ((denoised - low)[outer] / scale)
        return cond

    def pre_cfg(args: dict) -> list[Tensor]:
        out = args["conds_out"] if write else [estimate.clone() for estimate in args["conds_out"]]
        if not torch.any(out[1]):
            return out
        out[1] = skim(args["input"], out[1], out[0], args["cond_scale"], 0.0)
        out[0] = skim(args["input"], out[0], out[1], args["cond_scale"] - 1, 2.0)
        return out

    model = model.clone()
    model.set_model_sampler_pre_cfg_function(pre_cfg)
    return model


def copies_options(model: Any) -> Any:
    """A pre-CFG function that copies the run's options in depth before it asks the model once more."""

    def pre_cfg(args: dict) -> list[Tensor]:
        options = copy.deepcopy(args["model_options"])
        assert options["transformer_options"]["wrappers"]
        return args["conds_out"]

    model = model.clone()
    model.set_model_sampler_pre_cfg_function(pre_cfg)
    return model


def one_by_one(model: Any) -> Any:
    """A model function that asks the network once for each conditioning, of which it tells cond_or_uncond only."""

    def wrapper(apply_model: Any, args: dict) -> Tensor:
        places, c = args["cond_or_uncond"], args["c"]
        out = []
        for i, place in enumerate(places):
            own: dict[str, Any] = {
                key: value.chunk(len(places))[i] if isinstance(value, Tensor) else value for key, value in c.items()
            }
            own["transformer_options"] = {**c["transformer_options"], "cond_or_uncond": [place]}
            x, t = (args[name].chunk(len(places))[i] for name in ("input", "timestep"))
            out.append(apply_model(x, t, **own))
        return torch.cat(out)

    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model


def tiled_diffusion(model: Any, tile: int, tiles_a_call: int) -> Any:
    """shiimizu/ComfyUI-TiledDiffusion a155b1b, MultiDiffusion: the batch of a call is tile by tile, each with all
    entries; what is not as large as the picture is repeated to that batch. Tiles here do not overlap."""

    def repeated(tensor: Tensor, batch: int) -> Tensor:
        if len(tensor) >= batch:
            return tensor[:batch]
        times = [math.ceil(batch / len(tensor))] + [1] * (tensor.ndim - 1)
        return tensor.repeat(times).narrow(0, 0, batch)

    def wrapper(apply_model: Any, args: dict) -> Tensor:
        x, t, c = args["input"], args["timestep"], args["c"]
        n, out = len(x), torch.zeros_like(x)
        places = [(top, left) for top in range(0, x.shape[2], tile) for left in range(0, x.shape[3], tile)]
        for start in range(0, len(places), tiles_a_call):
            chosen = places[start : start + tiles_a_call]
            batch = torch.cat([x[:, :, top : top + tile, left : left + tile] for top, left in chosen])
            own: dict[str, Any] = {
                key: repeated(value, len(batch)) if isinstance(value, Tensor) else value for key, value in c.items()
            }
            found = apply_model(batch, repeated(t, len(batch)), **own)
            for i, (top, left) in enumerate(chosen):
                out[:, :, top : top + tile, left : left + tile] = found[i * n : (i + 1) * n]
        return out

    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model


def two_estimates(model: Any) -> Any:
    """A function for the model's estimates that gives those of positive and negative, whatever it is asked for, as a
    public node for normalised attention guidance does."""

    def estimates(args: dict) -> list[Tensor]:
        return comfy.samplers.calc_cond_batch(
            args["model"], args["conds"][:2], args["input"], args["sigma"], args["model_options"]
        )

    model = model.clone()
    model.set_model_sampler_calc_cond_batch_function(estimates)
    return model


def swaps_the_model(model: Any) -> Any:
    """A wrapper of each run that puts a clone of the guider's model in its place, as packs do that change weights for
    the length of a run."""

    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        own, guider.model_patcher = guider.model_patcher, guider.model_patcher.clone()
        try:
            return executor(*args, **kwargs)
        finally:
            guider.model_patcher = own

    model = model.clone()
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "other.swap", outer_sample)
    return model


def tea_cache(model: Any) -> Any:
    """welltop-cn/ComfyUI-TeaCache 91dff8e: a model function that has the network's forward answer with what it kept.
    Here it keeps the first answer of each conditioning and gives it again while the input has changed by little."""
    kept: dict[tuple, tuple[Tensor, Tensor]] = {}

    def unet_wrapper_function(apply_model: Any, args: dict) -> Tensor:
        x, key = args["input"], (tuple(args["cond_or_uncond"]), args["input"].shape)
        if key in kept and (kept[key][0] - x).abs().mean() < 0.3 * x.abs().mean():
            return kept[key][1]
        kept[key] = x, apply_model(x, args["timestep"], **args["c"])
        return kept[key][1]

    unet_wrapper_function.__qualname__ = "TeaCache.apply_teacache.<locals>.unet_wrapper_function"
    model = model.clone()
    model.set_model_unet_function_wrapper(unet_wrapper_function)
    model.model_options["transformer_options"]["rel_l1_thresh"] = 0.3
    return model


class ScheduledCFGGuider(comfy.samplers.CFGGuider):
    """kijai/ComfyUI-KJNodes 3f20054, Guider_ScheduledCFG: `cfg` is a number, or a list with one for each step; outside
    its range of steps there is no negative and cfg is 1."""

    def set_cfg(self, cfg: Any, start_percent: float = 0.0, end_percent: float = 1.0) -> None:  # type: ignore[override]
        self.cfg, self.start_percent, self.end_percent = cfg, start_percent, end_percent

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: Any = None, seed: Any = None) -> Tensor:
        steps = model_options["transformer_options"]["sample_sigmas"]
        matched = torch.isclose(steps, timestep.reshape(-1)[0].to(steps)).nonzero()
        step = int(matched[0]) if len(matched) else 0
        cfg, uncond = 1.0, None
        if self.start_percent <= step / (len(steps) - 1) <= self.end_percent:
            cfg = self.cfg[step] if isinstance(self.cfg, list) else self.cfg
            uncond = self.conds.get("negative")
        return comfy.samplers.sampling_function(
            self.inner_model, x, timestep, uncond, self.conds.get("positive"), cfg, model_options, seed
        )


def evolved_sampling(model: Any, length: int, motion: float = 0.0, settings: Any = None) -> Any:
    """Kosinkadink/ComfyUI-AnimateDiff-Evolved d8d163c, Use Evolved Sampling: for the length of a run its own guidance
    in the host's place, contexts of `length` frames (static, one in common, all of one weight), and what its motion
    models do to a forward pass: each frame takes `motion` of its context's mean."""

    def guidance(
        model: Any, x: Tensor, timestep: Tensor, uncond: Any, cond: Any, cond_scale: float, model_options: Any = None,
        seed: Any = None,
    ) -> Tensor:  # fmt: skip
        options = model_options.copy()
        options["transformer_options"] = transformer = options["transformer_options"].copy()
        transformer["ad_params"] = {"full_length": transformer["ADGS"], "sub_idxs": None}
        one = math.isclose(cond_scale, 1.0) and not options.get("disable_cfg1_optimization", False)
        found = comfy.samplers.calc_cond_batch(model, [cond, None if one else uncond], x, timestep, options)
        return comfy.samplers.cfg_function(model, *found, cond_scale, x, timestep, options, cond, uncond)

    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        guider, host = executor.class_obj, comfy.samplers.sampling_function
        own = guider.model_options
        guider.model_options = comfy.model_patcher.create_model_options_clone(own)
        guider.model_options["transformer_options"]["ADGS"] = len(args[1])
        comfy.samplers.sampling_function = guidance
        try:
            return executor(*args, **kwargs)
        finally:
            guider.model_options, comfy.samplers.sampling_function = own, host

    def resized(cond: list[dict] | None, batch: int, frames: list[int]) -> list[dict] | None:
        def part(value: Any) -> Any:
            held = getattr(value, "cond", None)
            chosen = isinstance(held, Tensor) and len(held) == batch
            return value._copy_with(held[frames]) if chosen else value

        return None if cond is None else [
            {**entry, "model_conds": {key: part(value) for key, value in entry["model_conds"].items()}}
            for entry in cond
        ]  # fmt: skip

    def contexts(executor: Any, model: Any, conds: list, x: Tensor, timestep: Tensor, options: dict) -> list[Tensor]:
        whole = options["transformer_options"]["ADGS"]
        if whole <= length:
            return executor(model, conds, x, timestep, options)
        starts = [*range(0, whole - length, length - 1), whole - length]
        out, counts = [torch.zeros_like(x) for _ in conds], torch.zeros(len(x), *[1] * (x.ndim - 1))
        for frames in (list(range(start, start + length)) for start in starts):
            options["transformer_options"]["ad_params"]["sub_idxs"] = frames
            parts = [resized(cond, len(x), frames) for cond in conds]
            for total, found in zip(out, executor(model, parts, x[frames], timestep[frames], options), strict=True):
                total[frames] += found
            counts[frames] += 1
        return [total / counts for total in out]

    def apply_model(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        params = args[4]["ad_params"]
        frames = x.unflatten(0, (-1, len(params["sub_idxs"] or range(params["full_length"]))))
        mixed = (1 - motion) * frames + motion * frames.mean(1, keepdim=True)
        return executor(mixed.flatten(0, 1), *args, **kwargs)

    model, kinds = model.clone(), comfy.patcher_extension.WrappersMP
    model.add_wrapper_with_key(kinds.OUTER_SAMPLE, "ADE", outer_sample)
    model.add_wrapper_with_key(kinds.CALC_COND_BATCH, "ADE", contexts)
    model.add_wrapper_with_key(kinds.APPLY_MODEL, "ADE_special_model_apply_model", apply_model)
    model.set_attachments("ADE_sample_settings", settings or EvolvedSettings())
    return model


class NothingToInject:
    def is_empty(self) -> bool:
        return True


@dataclass
class EvolvedSettings:
    """Of its sample_settings what has a run sampled more than once."""

    iteration_opts: Any = field(default_factory=lambda: SimpleNamespace(iterations=1))
    image_injection: Any = field(default_factory=NothingToInject)
