"""The figures of docs/evaluation.md: what the checkpoint and its judge reach, and what SEGA does on it."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from .judge import Judge
from .laboratory import Laboratory
from .portraits.attributes import ATTRIBUTES, INDEX, judgeable
from .training.data import render_many
from .training.judge import accuracy
from .training.text import random_captions
from .training.vae import psnr

# Seeds are kept apart from everything used while the domain was developed.
RENDER_SEED, CAPTION_SEED, NOISE_SEED, EDIT_SEED = 78_001, 78_002, 7_800_000, 8_900_000


def judge_accuracy(judge: Judge, n: int = 2048) -> dict[str, float]:
    """Per attribute, on renders nobody has seen."""
    return accuracy(judge, render_many(n, RENDER_SEED))


def reconstruction(lab: Laboratory, n: int = 256) -> float:
    """PSNR in dB of VAE round trips of unseen renders."""
    return psnr(lab.vae.first_stage_model.float(), render_many(n, RENDER_SEED))


def faithfulness(lab: Laboratory, judge: Judge, n: int = 512, batch: int = 64) -> dict[str, dict[str, float]]:
    """Plain guidance on random captions: how often each mentioned attribute is there (or, if denied, absent)."""
    rng = random.Random(CAPTION_SEED)
    who = render_many(n, RENDER_SEED + 1).portraits
    captions = random_captions(who, rng, empty=0.0)
    counts = {name: {"present": [0, 0], "absent": [0, 0]} for name in ATTRIBUTES}
    for start in range(0, n, batch):
        some = captions[start : start + batch]
        seeds = [NOISE_SEED + start + i for i in range(len(some))]
        answers = judge.probabilities(lab.pictures(seeds, lab.encode([c.text for c in some]))) > 0.5
        for caption, answer in zip(some, answers.tolist(), strict=True):
            for name, wanted in caption.mentioned.items():
                count = counts[name]["present" if wanted else "absent"]
                count[0] += answer[INDEX[name]] == wanted
                count[1] += 1
    return {
        name: {kind: right / total for kind, (right, total) in kinds.items() if total} | {"n": kinds["present"][1]}
        for name, kinds in counts.items()
    }


def outcome(before: Tensor, after: Tensor, wanted: dict[str, bool]) -> dict[str, float]:
    """Of the (picture, attribute) pairs that are not as wanted before, how many are afterwards, and how often the other
    judged attributes of those pictures stay as they were.

    before, after: the judge's answers, bool [N, 10], of pictures in the photo style.
    """
    photo = torch.zeros(len(before), dtype=torch.long)
    judged = judgeable(before, photo) & judgeable(after, photo)
    columns = [INDEX[name] for name in wanted]
    target = torch.tensor(list(wanted.values()))
    eligible = (before[:, columns] != target) & judged[:, columns]
    rows, others = eligible.any(1), judged.clone()
    others[:, columns] = False
    pairs = others[rows]
    return {
        "eligible": int(eligible.sum()),
        "success": float((after[:, columns] == target)[eligible].float().mean()),
        "preserved": float((before[rows] == after[rows])[pairs].float().mean()),
        "pairs": int(pairs.sum()),
    }


def sega_edit(
    lab: Laboratory, judge: Judge, steered: dict[str, Any], wanted: bool, prompt: str, seeds: list[int]
) -> dict[str, dict[str, float]]:
    """The outcome for each {attribute: steered model}."""
    positive = lab.encode(prompt)
    before = judge.probabilities(lab.pictures(seeds, positive)) > 0.5
    return {
        attribute: outcome(before, judge.probabilities(lab.pictures(seeds, positive, model)) > 0.5, {attribute: wanted})
        for attribute, model in steered.items()
    }
