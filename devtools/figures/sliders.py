"""The demo's concept sliders through Slider LoRA Loader: does the dial turn its attribute alone, and from when on?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from demo.sliders import FILES

from .editing import pack

# Kept apart from every seed that was used while the sliders were developed.
NOISE_SEEDS, REGION_SEED = (6_900_000, 7_000_000), 94_001
STRENGTHS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
STARTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
BATCH = 32


def prompt(name: str) -> str:
    """A slider's base prompt. It names the attribute, without which the classifier's logit saturates below 0; without a
    hat all ten attributes can be judged; and the more it says, the less the pictures are a blend of several people."""
    from demo.portraits.captions import PRESENT

    return f"a portrait of a woman with {PRESENT[name][0]}, straight hair, no beard and no hat"


def slide(lab: Any, slider: dict[str, Tensor], strength: float, start_percent: float = 0.2) -> Any:
    """The checkpoint's model behind Slider LoRA Loader."""
    node = pack("nodes.sliders").SliderLoRALoader
    return node.execute(model=lab.model, slider=slider, strength=strength, start_percent=start_percent).result[0]


def pictures(lab: Any, model: Any, seeds: list[int], name: str) -> Tensor:
    """[N, 3, 128, 128] of the base prompt of a slider."""
    positive = lab.encode(prompt(name))
    parts = [lab.pictures(seeds[i : i + BATCH], positive, model) for i in range(0, len(seeds), BATCH)]
    return torch.cat(parts)


def rank_correlations(strengths: tuple[float, ...], values: Tensor) -> Tensor:
    """Spearman's rank correlation of each column of values [S, N] with the strengths; ties get their mean rank.

    A column that does not change at all counts as 0.
    """

    def ranks(column: Tensor) -> Tensor:
        below = (column[None] < column[:, None]).sum(1)
        return below + ((column[None] == column[:, None]).sum(1) - 1) / 2

    def correlation(one: Tensor, other: Tensor) -> Tensor:
        one, other = one - one.mean(), other - other.mean()
        return (one * other).sum() / (one.norm() * other.norm()).clamp_min(1e-12)

    given = ranks(torch.tensor(strengths))
    return torch.stack([correlation(given, ranks(column)) for column in values.T])


def possible_region(name: str, n: int = 512) -> Tensor:
    """Where the attribute can show in a photo-style portrait at all: bool [128, 128], the union over n random ones.

    A generated picture has no true region of its own.
    """
    from demo.portraits.renderer import region, sample

    portraits = sample(n, torch.Generator().manual_seed(REGION_SEED)).with_style("photo")
    return torch.stack([region(portraits[rows], name).any(0) for rows in torch.arange(n).split(64)]).any(0)


def outside_error(edited: Tensor, plain: Tensor, where: Tensor) -> float:
    """Mean absolute difference outside the region, in 1/255."""
    return float((edited - plain).abs().mean(1)[:, ~where].mean() * 255)


def dial(lab: Any, judge: Any, name: str, slider: dict[str, Tensor], seeds: list[int]) -> dict[str, Any]:
    """One slider at all strengths from the same noise: the attribute's logit, and what else changes."""
    from demo.portraits.attributes import INDEX, judgeable

    index, where = INDEX[name], possible_region(name)
    made = {strength: pictures(lab, slide(lab, slider, strength), seeds, name) for strength in STRENGTHS}
    logits = torch.stack([judge.logits(made[strength]) for strength in STRENGTHS])
    correlations = rank_correlations(STRENGTHS, logits[..., index])
    photo = torch.zeros(len(seeds), dtype=torch.long)
    answers = dict(zip(STRENGTHS, logits > 0, strict=True))
    known = {strength: judgeable(answers[strength], photo) for strength in STRENGTHS}

    def flips(one: float, other: float) -> float:
        """How many of the nine other attributes, where both pictures can be judged, are answered differently."""
        changed = (answers[one] != answers[other]) & known[one] & known[other]
        changed[:, index] = False
        return float(changed.sum(1).float().mean())

    means = logits[..., index].mean(1)
    return {
        "spearman": float(correlations.mean()), "lowest_spearman": float(correlations.min()),
        "spearman_of_each_block": [float(block.mean()) for block in correlations.chunk(len(NOISE_SEEDS))],
        "logit_range": float(means[-1] - means[0]),
        "logits": {str(s): float(mean) for s, mean in zip(STRENGTHS, means, strict=True)},
        "share": {str(s): float(answers[s][:, index].float().mean()) for s in STRENGTHS},
        "others_changed": {"-2": flips(0.0, -2.0), "2": flips(0.0, 2.0), "-2 to 2": flips(-2.0, 2.0)},
        "outside": {str(s): outside_error(made[s], made[0.0], where) for s in (-2.0, -1.0, 1.0, 2.0)},
        "region": float(where.float().mean()),
    }  # fmt: skip


def delayed(lab: Any, judge: Any, name: str, slider: dict[str, Tensor], seeds: list[int]) -> list[dict[str, float]]:
    """The slider at +2 where the picture lacks the attribute and at -2 where it has it, switched on ever later: how
    many pictures come out as asked, how far the logit moves that way, and the change outside the possible region."""
    from demo.portraits.attributes import INDEX

    index, where = INDEX[name], possible_region(name)
    plain = pictures(lab, lab.model, seeds, name)
    before = judge.logits(plain)[:, index]
    signs = torch.where(before > 0, -1.0, 1.0)
    table = []
    for start in STARTS:
        edited = plain.clone()
        for sign in (-1.0, 1.0):
            rows = (signs == sign).nonzero()[:, 0]
            if len(rows):
                model = slide(lab, slider, 2 * sign, start)
                edited[rows] = pictures(lab, model, [seeds[row] for row in rows.tolist()], name)
        after = judge.logits(edited)[:, index]
        table.append({
            "start_percent": start, "as_asked": float((after * signs > 0).float().mean()),
            "logit_moves": float(((after - before) * signs).mean()), "outside": outside_error(edited, plain, where),
        })  # fmt: skip
    return table


def plot(result: dict[str, list[dict[str, float]]], file: Path) -> None:
    """Delayed activation as one picture: pictures as asked, and change outside, by start_percent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(6.4, 5.0), dpi=90, sharex=True)
    for marker, (name, rows) in zip("osD^", result.items(), strict=False):
        starts = [row["start_percent"] for row in rows]
        above.plot(starts, [100 * row["as_asked"] for row in rows], marker=marker, label=name.replace("_", " "))
        below.plot(starts, [row["outside"] for row in rows], marker=marker)
    above.set_ylabel("pictures as asked (%)")
    above.set_title("sliders at strength 2 (-2 where the picture has it already), switched on later", fontsize=9)
    above.legend(loc="lower left", fontsize=8)
    below.set_ylabel("change outside (mean, 1/255)")
    below.set_xlabel("start_percent")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.axvline(0.2, color="gray", linestyle=":")
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file, pil_kwargs={"quality": 45, "method": 6})
    pyplot.close(figure)


def figures(lab: Any, judge: Any, out: Path | None, quick: bool) -> dict[str, Any]:
    """The evaluation page's figures about sliders; out: the folder for the curve."""
    from safetensors.torch import load_file

    seeds = [first + i for first in NOISE_SEEDS for i in range(2 if quick else 32)]
    sliders = {name: load_file(file) for name, file in FILES.items()}
    second = seeds[len(seeds) // 2 :]
    result = {
        "prompts": {name: prompt(name) for name in sliders},
        "dial": {name: dial(lab, judge, name, slider, seeds) for name, slider in sliders.items()},
        "delayed": {name: delayed(lab, judge, name, slider, second) for name, slider in sliders.items()},
    }
    if out is not None:
        plot(result["delayed"], out / "sliders-delayed.webp")
    return result
