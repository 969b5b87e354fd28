"""The text encoder: a small CLIP-style transformer, taught what captions say before the diffusion model uses it.

Every caption states some attributes as present, some as absent, and leaves the rest open. Two heads that are
thrown away afterwards read this from the encoder's output: from the end token, and from the mean over tokens.
"""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import CONFIG
from ..host.portraits_model import TEXT_CONFIG, PortraitsClip
from ..portraits.attributes import ATTRIBUTES, STYLES, judgeable
from ..portraits.captions import Caption, caption
from ..portraits.renderer import Portraits, sample
from .state import TrainingState, cosine_schedule

logger = logging.getLogger("semantic_steering.demo")
LENGTH = 77


class Tokens:
    """ComfyUI's own CLIP tokenizer, as token ids [N, 77]; remembers what it has seen."""

    def __init__(self):
        from comfy.sd1_clip import SD1Tokenizer

        self.tokenizer = SD1Tokenizer()
        self.seen: dict[str, list[int]] = {}

    def __call__(self, texts: list[str]) -> Tensor:
        for text in texts:
            if text not in self.seen:
                (chunk,) = self.tokenizer.tokenize_with_weights(text)["l"]
                self.seen[text] = [token for token, _ in chunk]
        return torch.tensor([self.seen[text] for text in texts])


def random_captions(portraits: Portraits, rng: random.Random, empty: float) -> list[Caption]:
    """One random caption for each portrait."""
    known = judgeable(portraits.attributes, portraits.style)
    rows = zip(portraits.attributes.tolist(), known.tolist(), portraits.style.tolist(), strict=True)
    return [
        caption(dict(zip(ATTRIBUTES, a, strict=True)), dict(zip(ATTRIBUTES, k, strict=True)), STYLES[s], rng, empty)
        for a, k, s in rows
    ]


def new_encoder() -> Any:
    """The text model with fresh weights (ComfyUI's layers skip their initialisation)."""
    clip = PortraitsClip(device="cpu", dtype=torch.float32)
    for name, value in clip.named_parameters():
        value.requires_grad_(True)
        if "layer_norm" in name:
            nn.init.ones_(value) if name.endswith("weight") else nn.init.zeros_(value)
        elif name.endswith("bias"):
            nn.init.zeros_(value)
        elif "embedding" in name:
            nn.init.normal_(value, std=0.1)
        elif value.ndim == 2:
            nn.init.normal_(value, std=value.shape[1] ** -0.5 * 0.7)
    clip.transformer.text_projection.weight.data.copy_(torch.eye(TEXT_CONFIG["hidden_size"]))
    return clip


def encode(transformer: Any, tokens: Tensor) -> Tensor:
    """Hidden states [N, 77, width] of token ids, with gradients.

    The same computation as the host's own forward, which adds in place and so cannot be differentiated.
    """
    from comfy.ldm.modules.attention import optimized_attention_for_device

    model = transformer.text_model
    x = model.embeddings(tokens, dtype=torch.float32)
    mask = torch.full((LENGTH, LENGTH), -torch.finfo(x.dtype).max).triu_(1)
    attention = optimized_attention_for_device(x.device, mask=True, small_input=True)
    for layer in model.encoder.layers:
        x = x + layer.self_attn(layer.layer_norm1(x), mask, attention)
        x = x + layer.mlp(layer.layer_norm2(x))
    return model.final_layer_norm(x)


def train(folder: Path) -> Any:
    """Train (or go on training) the text encoder."""
    config = CONFIG.text
    torch.manual_seed(config.seed)
    clip = new_encoder()
    width = TEXT_CONFIG["hidden_size"]
    outputs = len(ATTRIBUTES) * 3 + len(STYLES) + 1
    heads = nn.ModuleList([nn.Linear(width, outputs), nn.Linear(width, outputs)])
    parameters = [*clip.transformer.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.0)
    state = TrainingState(folder / "text.pt", clip=clip, heads=heads, optimiser=optimiser)
    start = state.load()
    tokens = Tokens()
    for step in range(start, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * cosine_schedule(step, config.steps, 50)
        people = sample(config.batch, torch.Generator().manual_seed(1_000_000 + step))
        captions = random_captions(people, random.Random(step), empty=0.05)
        said = torch.tensor([[1 + c.mentioned[a] if a in c.mentioned else 0 for a in ATTRIBUTES] for c in captions])
        style = torch.tensor([0 if c.style is None else 1 + STYLES.index(c.style) for c in captions])
        ids = tokens([c.text for c in captions])
        hidden = encode(clip.transformer, ids)
        end = (ids == TEXT_CONFIG["eos_token_id"]).int().argmax(1)
        loss = torch.zeros(())
        for head, pooled in zip(heads, (hidden[torch.arange(len(ids)), end], hidden.mean(1)), strict=True):
            logits, style_logits = head(pooled).split([len(ATTRIBUTES) * 3, len(STYLES) + 1], dim=1)
            loss = loss + nn.functional.cross_entropy(logits.reshape(-1, 3), said.reshape(-1))
            loss = loss + nn.functional.cross_entropy(style_logits, style)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        state.save_sometimes(step + 1)
        if step % 100 == 0 or step + 1 == config.steps:
            logger.info("text step %d loss %.4f", step, loss.item())
    state.save(config.steps)
    return clip
