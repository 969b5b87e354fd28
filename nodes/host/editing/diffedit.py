"""DiffEdit inside the host: the mask from two conditionings, and the masked decode of an inversion."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from ....guidance_core import difference_map, masked_decode, noise_difference
from ..conditioning.attention_patches import has_image_prompt, mixes_outputs
from ..conditioning.checks import check_encoded, check_height_and_width
from ..conditioning.concept import Conditioning, restrictions_in
from ..conditioning.masks import fitted, to_cells
from ..page import no_numbers
from ..page.messages import input_name, message
from ..page.progress import show_text, stop_if_cancelled
from ..run.batched_call import BatchedCall
from ..run.evolved_sampling import check_motion, guidance_is_replaced
from ..run.ksampler import picture_size
from ..run.samplers import guider_for, run_sampler
from .inversion import Inversion

logger = logging.getLogger("semantic_steering")

# Of one conditioning over the whole picture the host divides these out again.
WEIGHTS = ("strength", "mask_strength", "set_area_to_bounds")
NEEDS_A_PICTURE = "{} needs a picture or a video"
# The host keeps this much of its free memory for what its estimate does not see.
MEMORY_MARGIN = 1.5


class TargetAndSource(BatchedCall):
    """The estimates for the two conditionings of a mask, in one call where the model's patches allow it."""

    found: list[Tensor]

    def __init__(self, conds: dict[str, list], model_options: dict):
        super().__init__(model_options)
        self.conds = conds

    def __call__(self, args: dict) -> list[Tensor]:
        conds = [self.conds["positive"], self.conds["source"]]
        if has_image_prompt(args["model_options"]) or mixes_outputs(args["model_options"]):
            # Index 1 is the negative's to such patches, but source is a positive like target.
            self.found = [self.asked(args, [cond])[0] for cond in conds]
        else:
            self.found = self.asked(args, conds)
        return [estimate.clone() for estimate in self.found]  # a guidance may write into them

    def ask(self, model: Any, x: Tensor, level: Tensor, options: dict) -> list[Tensor]:
        """By another pack's guidance where one is in the host's place: it makes ready what its estimates need."""
        if guidance_is_replaced():
            source, target = self.conds["source"], self.conds["positive"]
            comfy.samplers.sampling_function(model, x, level, source, target, 2.0, self.within(options))
        else:
            self({"conds": [], "input": x, "sigma": level, "model": model, "model_options": options})
        return self.found


@dataclass
class DifferenceSampler(comfy.samplers.Sampler):
    """One noise level, `maps` noises: how much the estimates for target and source differ. The result [B, S...] stays
    in `difference`; nothing is denoised."""

    maps: int
    seed: int
    on_maps: Callable[[Tensor], None]  # is told the mean of the maps so far
    difference: Tensor | None = None

    @torch.no_grad()
    def sample(self, model_wrap: Any, sigmas: Tensor, extra_args: dict, callback: Any, noise: Tensor,  # type: ignore[override]
               latent_image: Any = None, denoise_mask: Any = None, disable_pbar: bool = False) -> Tensor:  # fmt: skip
        model, sigma = model_wrap.inner_model, float(sigmas[0])
        batch, shape = len(latent_image), latent_image.shape[1:]
        # The same noises for every picture of the batch: a picture's mask does not depend on its neighbours.
        generator = torch.Generator().manual_seed(self.seed)
        noises = [torch.randn(1, *shape, generator=generator) for _ in range(self.maps)]
        progress = comfy.utils.ProgressBar(self.maps)
        total = torch.zeros(1)
        done = 0
        for chunk in torch.cat(noises).split(self._maps_a_call(model_wrap, latent_image)):
            stop_if_cancelled()
            noisy = chunk.to(latent_image.device).repeat_interleave(batch, dim=0)
            level = torch.full((len(noisy),), sigma, device=noisy.device)
            x = model.model_sampling.noise_scaling(level, noisy, latent_image.repeat(len(chunk), *[1] * len(shape)))
            call = TargetAndSource(model_wrap.conds, extra_args["model_options"])
            target, source = call.ask(model, x, level, extra_args["model_options"])
            total = total.to(x.device) + len(chunk) * difference_map(noise_difference(target, source, sigma), batch)
            done += len(chunk)
            progress.update_absolute(done, self.maps)
            self.on_maps((total / done).cpu())
            show_text(message("maps", done=done, total=self.maps), passing=True)
        self.difference = (total / self.maps).cpu()
        return latent_image

    def _maps_a_call(self, model_wrap: Any, latent_image: Tensor) -> int:
        """As many maps as the host's own estimate says fit into free memory, source and target together; at least 1
        (of one map the host itself splits source and target where they do not fit). Where a batch is one video, 1."""
        if guidance_is_replaced():
            return 1
        free = model_wrap.model_patcher.get_free_memory(latent_image.device)
        for maps in range(self.maps, 1, -1):
            rows = maps * len(latent_image)
            shapes: dict[str, list] = {}
            for cond in (cond for conds in model_wrap.conds.values() for cond in conds):
                for name, value in cond["model_conds"].items():
                    shapes.setdefault(name, []).append([rows, *value.size()[1:]])
            needed = model_wrap.inner_model.memory_required([2 * rows, *latent_image.shape[1:]], cond_shapes=shapes)
            if needed * MEMORY_MARGIN < free:
                return maps
        return 1


def level_of(model: Any, strength: float) -> float:
    """σ of percent 1 − strength; the schedule's start for strength 1."""
    sampling = model.get_model_object("model_sampling")
    return min(float(sampling.percent_to_sigma(1.0 - strength)), float(sampling.sigma_max))


def check_unlimited(conditioning: Conditioning, name: str) -> None:
    """Raises ValueError for a conditioning that holds in a part of the picture or of the run only: outside it the
    host's estimate is exactly 0, and a difference to 0 is no edit."""
    for _, options in conditioning:
        found = [key for key in restrictions_in(options) if key not in WEIGHTS]
        if found:
            raise ValueError(
                f"{name} is limited by {found[0]}; DiffEdit Mask compares whole pictures. Connect the conditioning "
                "from before the limit, and multiply the mask with one of your own"
            )


def estimate_difference(
    model: Any, source: Conditioning, target: Conditioning, samples: Tensor, strength: float, maps: int, seed: int,
    on_maps: Callable[[Tensor], None] = lambda difference: None,
) -> Tensor:  # fmt: skip
    """mean |Δn| over maps and channels, [B, S...] at latent size.

    Raises ValueError for limited or foreign conditionings, and for several videos.
    """
    check_encoded(source=source, target=target)
    check_unlimited(source, "source")
    check_unlimited(target, "target")
    if samples.ndim > 4 and len(samples) > 1 and samples.shape[2] > 1:
        raise ValueError(f"latent_image holds {len(samples)} videos; a mask is made for one at a time")
    check_motion(model, "DiffEdit Mask")
    guider = guider_for(model, {"positive": target, "source": source})
    # "positive" also for the source: aesthetic scores and the like must not be what the two differ in.
    for conds in guider.original_conds.values():
        for cond in conds:
            cond["prompt_type"] = "positive"
    sampler = DifferenceSampler(maps, seed, on_maps)
    sigma = level_of(model, strength)
    guider.sample(torch.zeros_like(samples), samples, sampler, torch.tensor([sigma, 0.0]), disable_pbar=True, seed=seed)
    assert sampler.difference is not None  # sample() set it
    if not torch.isfinite(sampler.difference).all():
        raise ValueError("model gave values that are no numbers for source or target; load it in another precision")
    if not sampler.difference.flatten(1).any(1).all():
        logger.warning("DiffEdit Mask: source and target mean the same to this model; the mask is empty")
    return sampler.difference


@dataclass
class MaskedDecodeSampler(comfy.samplers.Sampler):
    """Euler (DDIM) from the inversion's noisiest state, kept on its trajectory outside the mask [B or 1, 1, ...]."""

    inversion: Inversion
    mask: Tensor

    @torch.no_grad()
    def sample(self, model_wrap: Any, sigmas: Tensor, extra_args: dict, callback: Any, noise: Tensor,  # type: ignore[override]
               latent_image: Any = None, denoise_mask: Any = None, disable_pbar: bool = False) -> Tensor:  # fmt: skip
        device, total = latent_image.device, len(sigmas) - 1

        def denoise(x: Tensor, sigma: float) -> Tensor:
            stop_if_cancelled()
            return model_wrap(x, torch.full((len(x),), sigma, device=x.device), **extra_args)

        def on_step(i: int, denoised: Tensor, x: Tensor) -> None:
            if callback is not None:
                callback(i, denoised, x, total)

        # All but the first state are moved when their level is reached: a video's trajectory is large.
        trajectory = [self.inversion.latents[-1].to(device), *self.inversion.latents[-2::-1]]
        return masked_decode(denoise, trajectory, [float(s) for s in sigmas], self.mask.to(device), on_step)


def decode(model: Any, positive: Conditioning, negative: Conditioning, inversion: Inversion, mask: Tensor,
           cfg: float) -> Tensor:  # fmt: skip
    """LATENT samples of the edited picture. Where the latent mask is 0 they are the inverted picture's own, bit for
    bit: the host's conversion to its internal latent space and back does not give every float back."""
    check_encoded(positive=positive, negative=negative)
    inversion.model.check(model, "the inversion was", "Connect the model that was connected to DDIM Invert")
    samples = inversion.samples
    check_height_and_width(samples.shape, NEEDS_A_PICTURE.format("DiffEdit Sampler"))
    if not mask.any():  # also of any size: LoadImage gives 64x64 zeros for a picture without alpha
        text = message("nothing_to_edit", threshold=input_name("DiffEditMask", "threshold"))
        logger.warning("DiffEdit Sampler: %s", text)
        show_text(text)
        return samples.clone()
    ratio = model.get_model_object("latent_format").temporal_downscale_ratio
    picture = fitted(mask, samples.shape, picture_size(model, samples.shape))
    cells = to_cells(picture, samples.shape, ratio, "mask")
    guider = guider_for(model, {"positive": positive, "negative": negative}, cfg)
    sampler = MaskedDecodeSampler(inversion, cells)
    edited = run_sampler(guider, sampler, inversion.sigmas.flip(0), samples, torch.zeros_like(samples), seed=0)
    no_numbers.warn(edited, ["cfg"], "DiffEdit Sampler")
    return torch.where(cells.to(edited.device) == 0, samples.to(edited.device), edited)
