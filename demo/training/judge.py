"""Trains the judge on renders, slightly blurred, shifted in colour and noised, so that it looks at shapes and not at
the renderer's exact pixels. Attributes that cannot be judged are left out of the loss."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import CONFIG
from ..judge import Judge, network
from ..portraits.attributes import ATTRIBUTES, judgeable
from .data import Renders, as_floats, renders
from .state import TrainingState, cosine_schedule

logger = logging.getLogger("semantic_steering.demo")


def disturbed(x: Tensor) -> Tensor:
    """Mirror, blur, tint and noise, each at random for each picture [N, 3, S, S]."""
    n = len(x)
    chance = torch.rand(3, n, 1, 1, 1)
    x = torch.where(chance[0] < 0.5, x.flip(-1), x)
    x = torch.where(chance[1] < 0.4, nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False), x)
    x = x * (1 + 0.1 * (torch.rand(n, 3, 1, 1) - 0.5)) + 0.06 * (torch.rand(n, 3, 1, 1) - 0.5)
    return (x + 0.06 * chance[2] * torch.randn_like(x)).clamp(0, 1)


def accuracy(judge: Judge, data: Renders) -> dict[str, float]:
    """Share of right answers for each attribute, over the pictures where it can be judged."""
    answers = judge.logits(as_floats(data.pictures)) > 0
    known = judgeable(data.portraits.attributes, data.portraits.style)
    right = (answers == data.portraits.attributes) & known
    shares = right.sum(0) / known.sum(0)
    return {name: float(share) for name, share in zip(ATTRIBUTES, shares, strict=True)}


def train(folder: Path) -> Judge:
    """Train (or go on training) the judge, and save its weights beside the checkpoint."""
    config = CONFIG.judge
    torch.manual_seed(config.seed)
    net = network().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=0.01, fused=True)
    state = TrainingState(folder / "judge.pt", net=net, optimiser=optimiser)
    start = state.load()
    data = renders(folder, "train")
    for step in range(start, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * cosine_schedule(step, config.steps, 50)
        rows = torch.randint(len(data.pictures), (config.batch,))
        who = data.portraits[rows]
        x = disturbed(as_floats(data.pictures[rows])) * 2 - 1
        logits = net(x.contiguous(memory_format=torch.channels_last))
        losses = nn.functional.binary_cross_entropy_with_logits(logits, who.attributes.float(), reduction="none")
        known = judgeable(who.attributes, who.style)
        loss = (losses * known).sum() / known.sum()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        state.save_sometimes(step + 1)
        if step % 100 == 0:
            logger.info("judge step %d loss %.4f", step, loss.item())
    state.save(config.steps)
    judge = Judge(net)
    logger.info("judge held-out accuracy %s", accuracy(judge, renders(folder, "held_out")))
    judge.save()
    return judge
