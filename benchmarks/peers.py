"""The authors' implementations, diffusers' pipelines, on the same random UNet as ComfyUI: the other side of benchmarks
and of the tests of parity.

They run without VAE and text encoder: latents go in directly, and texts are names of conditionings. SEMANTIC_STEERING_
ORACLE names the folder diffusers is installed in; it goes last on sys.path, so that the host keeps its own packages.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import comfy.utils
import torch
from torch import Tensor

from devtools.host import NO_DIFFUSERS

TRAINED_STEPS = 1000
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LEADING = {"num_train_timesteps": TRAINED_STEPS, "steps_offset": 1, "timestep_spacing": "leading", **BETAS}
NEVER = 10_000  # a step that no run reaches; diffusers' list of cool-downs cannot hold None


def diffusers() -> Any:
    """The library. Raises ModuleNotFoundError where there is none."""
    folder = os.environ.get("SEMANTIC_STEERING_ORACLE")
    if folder and folder not in sys.path:
        sys.path.append(folder)
    try:
        import diffusers as library  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as problem:
        raise ModuleNotFoundError(NO_DIFFUSERS) from problem
    return library


def reference_unet(model: Any, device: torch.device | str = "cpu") -> Any:
    """The UNet of a ComfyUI MODEL of SD 1.5's kind, weights and all, as diffusers' UNet2DConditionModel."""
    config = model.model.model_config.unet_config
    attends = [
        sum(config["transformer_depth"][level * blocks : (level + 1) * blocks]) > 0
        for level, blocks in enumerate(config["num_res_blocks"])
    ]
    unet = diffusers().UNet2DConditionModel(
        in_channels=config["in_channels"], out_channels=config["out_channels"],
        block_out_channels=tuple(config["model_channels"] * multiple for multiple in config["channel_mult"]),
        layers_per_block=config["num_res_blocks"][0], cross_attention_dim=config["context_dim"],
        down_block_types=tuple("CrossAttnDownBlock2D" if found else "DownBlock2D" for found in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if found else "UpBlock2D" for found in reversed(attends)),
        attention_head_dim=config["num_heads"],  # diffusers' name for the number of heads
    )  # fmt: skip
    weights = model.model.diffusion_model.state_dict()
    names = comfy.utils.unet_to_diffusers(config)
    wanted = unet.state_dict()
    unet.load_state_dict({name: weights[names[name]].reshape(value.shape) for name, value in wanted.items()})
    assert {names[name] for name in wanted} == set(weights), "a weight of ComfyUI's UNet has no counterpart"
    return torch.nn.Module.to(unet.eval(), device, next(iter(weights.values())).dtype)


def tokens_of(conditioning: list) -> Tensor:
    return conditioning[0][0]


def start_noise(latents: Tensor, sigma: float) -> Tensor:
    """The noise that gives ComfyUI's euler the state that DDIM starts from: x_σ = x_vp·√(1 + σ²) = noise·σ."""
    return latents * (1 + sigma**2) ** 0.5 / sigma


def percent_before_step(step: int, steps: int) -> float:
    """A start_percent whose σ lies halfway between those of step − 1 and step on the leading DDIM schedule."""
    if step == 0:
        return 0.0
    if step >= steps:
        return 1.0
    spacing = TRAINED_STEPS // steps
    timestep = 1 + (steps - 1 - step) * spacing
    return 1 - (timestep + spacing / 2) / (TRAINED_STEPS - 1)


class Tokenizer:
    """Knows whole texts by their place in a list."""

    model_max_length = 77

    def __init__(self, texts: Sequence[str]):
        self.texts = list(texts)
        self.added_tokens_encoder: dict[str, int] = {}  # textual inversions, which the library looks for

    def __call__(self, texts: str | Sequence[str], **_: Any) -> Any:
        texts = [texts] if isinstance(texts, str) else texts
        ids = torch.tensor([[self.texts.index(text)] for text in texts])
        return SimpleNamespace(input_ids=ids, length=torch.full((len(texts),), 4))  # two words between start and end

    def tokenize(self, text: str) -> list[str]:
        return []


class TextEncoder:
    """Looks conditionings up instead of computing them."""

    def __init__(self, conditionings: Iterable[list], unet: Any):
        self.features = [tokens_of(conditioning).to(unet.device, unet.dtype) for conditioning in conditionings]
        self.dtype, self.config = unet.dtype, SimpleNamespace()

    def __call__(self, ids: Tensor, **_: Any) -> tuple[Tensor]:
        return (torch.cat([self.features[int(i)] for i in ids[:, 0]]),)


class _Peer:
    """A pipeline of a library that wants a whole checkpoint, put together from the parts that a benchmark has.

    table: the conditioning of every text that is used.
    """

    def __init__(self, pipeline: Any, unet: Any, scheduler: Any, table: dict[str, list], **modules: Any):
        self.unet, self.pipe = unet, pipeline.__new__(pipeline)
        diffusers().DiffusionPipeline.__init__(self.pipe)
        self.pipe.register_modules(
            vae=None, text_encoder=None, tokenizer=None, unet=unet, scheduler=scheduler, safety_checker=None,
            feature_extractor=None, **modules,
        )  # fmt: skip
        self.pipe.tokenizer, self.pipe.text_encoder = Tokenizer(list(table)), TextEncoder(table.values(), unet)
        self.pipe.vae_scale_factor = 8
        self.pipe.image_processor = SimpleNamespace(
            preprocess=lambda image, **_: image, postprocess=lambda image, **_: image
        )
        self.pipe.set_progress_bar_config(disable=True)

    def to_unet(self, values: Tensor) -> Tensor:
        return values.to(self.unet.device, self.unet.dtype)

    def features(self, conditioning: list) -> Tensor:
        return self.to_unet(tokens_of(conditioning))


class SEGA(_Peer):
    """SemanticStableDiffusionPipeline, the authors' SEGA."""

    def __init__(self, unet: Any, positive: list, negative: list):
        library = diffusers()
        scheduler = library.DDIMScheduler(clip_sample=False, set_alpha_to_one=True, **LEADING)
        table = {"positive": positive, "": negative}
        super().__init__(library.SemanticStableDiffusionPipeline, unet, scheduler, table)

    @torch.no_grad()
    def __call__(self, latents: Tensor, steps: int, cfg: float, concepts: list, **options: Any) -> Tensor:
        result = self.pipe(
            "positive", height=8 * latents.shape[-2], width=8 * latents.shape[-1], num_inference_steps=steps,
            guidance_scale=cfg, latents=self.to_unet(latents), output_type="latent",
            editing_prompt_embeddings=torch.cat([self.features(c) for c in concepts]) if concepts else None, **options,
        )  # fmt: skip
        return result.images


class DiffEdit(_Peer):
    """StableDiffusionDiffEditPipeline, the port of DiffEdit.

    What it is at fault for is left out by how it is called: it takes the prompt for the negative and the negative for
    the prompt (guidance then only changes its sign, and the mask does not, as long as both texts share one negative),
    and its mean runs over the batch (one picture at a time).
    """

    def __init__(self, unet: Any):
        library = diffusers()
        options = {"clip_sample": False, "set_alpha_to_one": True, **LEADING}
        self.scheduler, self.inverse = library.DDIMScheduler(**options), library.DDIMInverseScheduler(**options)
        pipeline = library.StableDiffusionDiffEditPipeline
        self.module = sys.modules[pipeline.__module__]
        super().__init__(pipeline, unet, self.scheduler, {}, inverse_scheduler=self.inverse)
        config = SimpleNamespace(scaling_factor=1.0, latent_channels=4)
        self.pipe.vae = SimpleNamespace(dtype=unet.dtype, config=config)

    def inverse_timesteps(self, steps: int, strength: float) -> list[int]:
        self.inverse.set_timesteps(steps)
        found, _ = self.pipe.get_inverse_timesteps(steps, strength, "cpu")
        return [int(t) for t in found]

    def mask_timestep(self, steps: int, strength: float) -> int:
        self.scheduler.set_timesteps(steps)
        found, _ = self.pipe.get_timesteps(steps, strength, "cpu")
        return int(found[0])

    def generate_mask(
        self, latents: Tensor, source: list, target: list, negative: list, noises: Tensor, cfg: float, ratio: float,
        steps: int, strength: float,
    ) -> Tensor:  # fmt: skip
        """The mask [1, h, w] with the given noises [n, C, h, w]."""
        given = self.to_unet(noises)
        with patch.object(self.module, "randn_tensor", lambda shape, **_: given.reshape(shape)):
            mask = self.pipe.generate_mask(
                image=latents, source_prompt_embeds=self.features(source), target_prompt_embeds=self.features(target),
                source_negative_prompt_embeds=self.features(negative),
                target_negative_prompt_embeds=self.features(negative), num_maps_per_mask=len(noises),
                mask_encode_strength=strength, mask_thresholding_ratio=ratio, num_inference_steps=steps,
                guidance_scale=cfg, output_type="np",
            )  # fmt: skip
        return torch.from_numpy(mask).float()

    def invert(self, latents: Tensor, positive: list, steps: int, strength: float) -> Tensor:
        """The states [B, n, C, h, w], noisiest first, as diffusers has them: x_vp = x/√(1 + σ²)."""
        return self.pipe.invert(
            image=latents, prompt_embeds=self.features(positive).repeat(len(latents), 1, 1), num_inference_steps=steps,
            inpaint_strength=strength, guidance_scale=1.0, output_type="latent",
        ).latents  # fmt: skip

    def decode(
        self, states: Tensor, mask: Tensor, positive: list, negative: list, cfg: float, steps: int, strength: float
    ) -> Tensor:
        """The edited latents; mask: [1, h, w] of 0 and 1."""
        return self.pipe(
            mask_image=mask, image_latents=states, prompt_embeds=self.features(positive),
            negative_prompt_embeds=self.features(negative), guidance_scale=cfg, num_inference_steps=steps,
            inpaint_strength=strength, output_type="latent",
        ).images  # fmt: skip


class InstructPix2Pix(_Peer):
    """StableDiffusionInstructPix2PixPipeline, the authors' guidance by a text and a picture."""

    def __init__(self, unet: Any):
        library = diffusers()
        scheduler = library.DDIMScheduler(clip_sample=False, set_alpha_to_one=True, **LEADING)
        super().__init__(library.StableDiffusionInstructPix2PixPipeline, unet, scheduler, {}, image_encoder=None)
        self.pipe.vae = SimpleNamespace(config=SimpleNamespace(latent_channels=4))

    @torch.no_grad()
    def __call__(
        self, latents: Tensor, image: Tensor, positive: list, negative: list, steps: int, text_scale: float,
        image_scale: float,
    ) -> Tensor:  # fmt: skip
        """The end of a run from the given noise. image: the picture's latents, as the VAE gives them."""
        prompt, other = (self.features(found).repeat(len(latents), 1, 1) for found in (positive, negative))
        return self.pipe(
            image=image, prompt_embeds=prompt, negative_prompt_embeds=other, num_inference_steps=steps,
            guidance_scale=text_scale, image_guidance_scale=image_scale, latents=latents, output_type="latent",
        ).images  # fmt: skip


class LEdits(_Peer):
    """LEditsPPPipelineStableDiffusion, LEDITS++ with its own scheduler (sde-dpmsolver++, second order)."""

    def __init__(self, unet: Any, empty: list, concepts: list[list]):
        library = diffusers()
        scheduler = library.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", solver_order=2, **LEADING)
        self.texts = [f"concept {i}" for i in range(len(concepts))]
        table = {"": empty, **dict(zip(self.texts, concepts, strict=True))}
        super().__init__(library.LEditsPPPipelineStableDiffusion, unet, scheduler, table)

    def __call__(
        self, latents: Tensor, steps: int, skip: float, count: int, generator: torch.Generator, **options: Any
    ) -> Tensor:
        """Invert a picture and edit it with the first `count` concepts. The edited latents."""
        height, width = (8 * side for side in latents.shape[-2:])
        posterior = SimpleNamespace(mode=lambda: self.to_unet(latents))
        config = {"sample_size": max(height, width), "scaling_factor": 1.0}
        self.pipe.vae = SimpleNamespace(
            config=diffusers().configuration_utils.FrozenDict(config),
            encode=lambda _: SimpleNamespace(latent_dist=posterior), decode=lambda latents, **_: (latents,),
        )  # fmt: skip
        self.pipe.invert(torch.zeros(1, 3, height, width), num_inversion_steps=steps, skip=skip, generator=generator)
        return self.pipe(editing_prompt=self.texts[:count], generator=generator, output_type="latent", **options).images

    def timesteps(self, steps: int, skip: float) -> list[int]:
        """Those of a call, noisiest first."""
        self.pipe.scheduler.set_timesteps(int(steps * (1 + skip)))
        return [int(t) for t in self.pipe.scheduler.timesteps[-steps:]]
