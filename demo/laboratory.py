"""Pictures from the portraits checkpoint through ComfyUI's own loader and samplers, in process and in batches.

ComfyUI must be importable and set up for this process before this module is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sample
import comfy.sd
import torch
from torch import Tensor

from . import host  # noqa: F401  (registers the checkpoint's model class)

CHECKPOINT = Path(__file__).parent / "models" / "portraits.safetensors"
STEPS, CFG, SAMPLER, SCHEDULER = 20, 5.0, "euler", "normal"


class Laboratory:
    """The checkpoint, loaded once."""

    def __init__(self, checkpoint: Path = CHECKPOINT):
        loaded: Any = comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_vae=True, output_clip=True)
        self.model, self.clip, self.vae = loaded[:3]

    @torch.no_grad()
    def encode(self, texts: str | list[str]) -> list:
        """One conditioning; for a list, one whose batch entries are the texts."""
        texts = [texts] if isinstance(texts, str) else texts
        conds = [self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))[0] for text in texts]
        return [[torch.cat([cond[0] for cond in conds]), conds[0][1]]]

    @torch.no_grad()
    def latents(
        self, seeds: list[int], positive: list, model: Any = None, cfg: float = CFG, steps: int = STEPS,
        sampler: str = SAMPLER, scheduler: str = SCHEDULER,
    ) -> Tensor:  # fmt: skip
        """One latent [N, 4, 16, 16] a seed, each from its own noise as a KSampler with that seed would make it; what a
        sampler adds on its way is the first seed's."""
        empty = torch.zeros(1, 4, 16, 16)
        noises: list[Any] = [comfy.sample.prepare_noise(empty, seed) for seed in seeds]
        noise = torch.cat(noises)
        return comfy.sample.sample(
            self.model if model is None else model, noise, steps, cfg, sampler, scheduler, positive, self.encode(""),
            empty.repeat(len(seeds), 1, 1, 1), disable_pbar=True, seed=seeds[0],
        )  # fmt: skip

    @torch.no_grad()
    def pictures(
        self, seeds: list[int], positive: list, model: Any = None, cfg: float = CFG, steps: int = STEPS,
        sampler: str = SAMPLER, scheduler: str = SCHEDULER,
    ) -> Tensor:  # fmt: skip
        """The same, decoded: [N, 3, 128, 128] in [0, 1]."""
        latents = self.latents(seeds, positive, model, cfg, steps, sampler, scheduler)
        return self.vae.decode(latents).movedim(-1, 1).clamp(0, 1)
