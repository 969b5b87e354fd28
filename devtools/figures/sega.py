"""SEGA on the portraits domain: what momentum and refresh do to success and cost, and what a recorded edit is worth."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..strips import overview
from .editing import pack

# Kept apart from every seed that was used while the pack was developed.
COST_SEED, TRANSFER_SEED, CACHE_SEED = 9_300_000, 9_400_000, 9_850_000
PROMPT = "a portrait of a person with no hat"
FOUR = {"glasses": "glasses", "smile": "a smile", "beard": "a beard", "gray_hair": "gray hair"}
SCALES = (5.0, 2.0)  # the node's default, and one at which not everything succeeds
# What the paper's s_m = 0.1 and β = 0.4 make of an edit that stays the same: that much more scale (derivations.md).
GAIN = 1 + 0.1 * (1 - 0.4) / (1 - (0.4 + (1 - 0.4) * 0.1))
# (momentum_scale, refresh, factor of the scale) with the paper's β; the first one is the reference
SETTINGS = ((0.1, 1, 1.0), (0.0, 1, 1.0), (0.0, 1, GAIN), *((0.0, refresh, 1.0) for refresh in (2, 3, 4, 6)))
OTHERS = (
    "a portrait of a woman with bangs and no hat", "a portrait of a man with a beard and no hat",
    "a portrait of a woman with gray hair and no hat", "a portrait of a bald man with no hat",
)  # fmt: skip
BATCH = 32


def concepts(lab: Any, texts: list[str], scale: float = 5.0) -> Any:
    """SEGA Concepts with their defaults, chained."""
    chained = None
    for text in texts:
        node = pack("nodes.sega").SEGAConcept
        chained = node.execute(clip=lab.clip, text=text, scale=scale, concepts=chained).result[0]
    return chained


def answers(lab: Any, judge: Any, prompt: str, seeds: list[int], models: Callable[[int], Any]) -> tuple[Tensor, float]:
    """The judge's answers, bool [N, 10], and the seconds of processor time that sampling took. models: the model for
    each batch of seeds, by its number."""
    positive, found, seconds = lab.encode(prompt), [], 0.0
    for number, start in enumerate(range(0, len(seeds), BATCH)):
        began = time.process_time()
        latents = lab.latents(seeds[start : start + BATCH], positive, models(number))
        seconds += time.process_time() - began
        pictures = lab.vae.decode(latents).movedim(-1, 1).clamp(0, 1)
        found.append(judge.probabilities(pictures) > 0.5)
    return torch.cat(found), seconds


def cost(lab: Any, judge: Any, seeds: list[int], say: Callable[[Any], None] = lambda row: None) -> list[dict[str, Any]]:
    """Four concepts at once: a row for each scale and setting; times relative to the pictures without an edit."""
    from demo.evaluate import outcome

    answers(lab, judge, PROMPT, seeds[:2], lambda _: None)  # loads the models, so that the next one is a fair time
    before, plain = answers(lab, judge, PROMPT, seeds, lambda _: None)
    rows = []
    for scale in SCALES:
        for momentum, refresh, factor in SETTINGS:
            chained, node = concepts(lab, list(FOUR.values()), factor * scale), pack("nodes.sega").SEGAGuidance
            model = node.execute(lab.model, chained, momentum_scale=momentum, refresh=refresh).result[0]
            after, seconds = answers(lab, judge, PROMPT, seeds, lambda _, model=model: model)
            rows.append({
                "scale": scale, "factor": factor, "momentum_scale": momentum, "refresh": refresh,
                "time": seconds / plain, **outcome(before, after, dict.fromkeys(FOUR, True)),
            })  # fmt: skip
            say(rows[-1])
    return rows


def transfer(lab: Any, judge: Any, seeds: list[int], say: Callable[[Any], None] = lambda row: None) -> dict[str, Any]:
    """Glasses recorded on one prompt, added to others: the share of pictures with glasses without an edit, with the
    vectors of their own seed, with those of the next seed's picture, and with SEGA itself on that prompt."""
    from demo.evaluate import outcome
    from demo.portraits.attributes import INDEX

    host, node = pack("nodes.host.sega.patch"), pack("nodes.vectors").SEGAApplyVectors
    settings, chained = pack("nodes.host.sega.settings").SEGASettings(), concepts(lab, ["glasses"])
    runs: list[Any] = []
    recording = host.patch_model(lab.model, chained, settings, runs.append)
    source, _ = answers(lab, judge, PROMPT, seeds, lambda _: recording)
    shapes = [torch.Size((min(BATCH, len(seeds) - start), 4, 16, 16)) for start in range(0, len(seeds), BATCH)]
    recorded = [host.recorded(run, lab.model, shape, 0) for run, shape in zip(runs, shapes, strict=True)]
    moved = [pack("nodes.host.sega.vectors").ConceptVectors(
        v.gamma.roll(1, dims=1), v.sigmas, v.model, v.concepts, v.seed) for v in recorded]  # fmt: skip

    def with_vectors(kept: list[Any]) -> Callable[[int], Any]:
        return lambda number: node.execute(lab.model, kept[number]).result[0]

    ways = {
        "vectors": with_vectors(recorded), "vectors of another seed": with_vectors(moved),
        "SEGA": lambda _: host.patch_model(lab.model, chained, settings),
    }  # fmt: skip
    index, rows = INDEX["glasses"], []
    for prompt in OTHERS:
        before, plain = answers(lab, judge, prompt, seeds, lambda _: None)
        row: dict[str, Any] = {"prompt": prompt, "without": float(before[:, index].float().mean())}
        for way, models in ways.items():
            after, seconds = answers(lab, judge, prompt, seeds, models)
            row[way] = {
                "share": float(after[:, index].float().mean()), "time": seconds / plain,
                **outcome(before, after, {"glasses": True}),
            }  # fmt: skip
        rows.append(row)
        say(row)
    return {"recorded on": PROMPT, "recorded share": float(source[:, index].float().mean()), "prompts": rows}


def cached(lab: Any, judge: Any, seeds: list[int], say: Callable[[Any], None] = lambda row: None) -> list[dict]:
    """Four concepts at once beside the host's step caches at their defaults: a row for each cache and none; times
    relative to the pictures without edit and cache. Compared is with the pictures of the same cache without an edit."""
    from comfy_extras import nodes_easycache as caches

    from demo.evaluate import outcome

    ways: dict[str, Callable[[Any], Any]] = {
        "none": lambda model: model,
        "EasyCache": lambda model: caches.EasyCacheNode.execute(model, 0.2, 0.15, 0.95, False).args[0],
        "LazyCache": lambda model: caches.LazyCacheNode.execute(model, 0.2, 0.15, 0.95, False).args[0],
    }
    steered = pack("nodes.sega").SEGAGuidance.execute(lab.model, concepts(lab, list(FOUR.values()))).result[0]
    answers(lab, judge, PROMPT, seeds[:2], lambda _: None)  # loads the models, so that the next one is a fair time
    rows, plain = [], 0.0
    for name, put in ways.items():
        before, alone = answers(lab, judge, PROMPT, seeds, lambda _, put=put: put(lab.model))
        after, seconds = answers(lab, judge, PROMPT, seeds, lambda _, put=put: put(steered))
        plain = plain or alone
        times = {"time without": alone / plain, "time": seconds / plain}
        rows.append({"cache": name, **times, **outcome(before, after, dict.fromkeys(FOUR, True))})
        say(rows[-1])
    return rows


def picture(lab: Any, seed: int, file: Path) -> None:
    """The recorded edit and what it does to the other prompts of the same seed, before above, after below."""
    host, node = pack("nodes.host.sega.patch"), pack("nodes.vectors").SEGAApplyVectors
    runs: list[Any] = []
    recording = host.patch_model(
        lab.model, concepts(lab, ["glasses"]), pack("nodes.host.sega.settings").SEGASettings(), runs.append
    )

    def made(prompt: str, model: Any = None) -> Image.Image:
        pixels = lab.pictures([seed], lab.encode(prompt), model)[0].movedim(0, -1)
        return Image.fromarray((pixels * 255).round().byte().numpy())

    columns = [(f"recorded: {PROMPT}", made(PROMPT), made(PROMPT, recording))]
    vectors = host.recorded(runs[0], lab.model, torch.Size((1, 4, 16, 16)), seed)
    model = node.execute(lab.model, vectors).result[0]
    columns += [(f"applied: {prompt}", made(prompt), made(prompt, model)) for prompt in OTHERS]
    overview(columns).save(file, quality=65, method=6)


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Success against cost: a line for each scale, the reference's momentum as a point of its own."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), dpi=110)
    for marker, scale in zip("os", SCALES, strict=True):
        line = [row for row in rows if row["scale"] == scale]
        held = [row for row in line if row["momentum_scale"] == 0 and row["factor"] == 1]
        points = [row["time"] for row in held], [100 * row["success"] for row in held]
        axes.plot(*points, marker=marker, label=f"scale {scale:g}, momentum 0, refresh 1, 2, 3, 4, 6")
        for row in held:
            at = (row["time"], 100 * row["success"])
            axes.annotate(str(row["refresh"]), at, textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8)
        reference = [row for row in line if row["momentum_scale"] > 0]
        xs, ys = [row["time"] for row in reference], [100 * row["success"] for row in reference]
        axes.plot(xs, ys, marker, color="black", fillstyle="none", label=f"scale {scale:g}, momentum 0.1, refresh 1")
    axes.set_xlabel("time of a run, relative to no edit")
    axes.set_ylabel("pairs as asked (%)")
    axes.set_title("four concepts at once: success against cost", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(file, pil_kwargs={"quality": 65, "method": 6})
    pyplot.close(figure)


def figures(lab: Any, judge: Any, out: Path | None, quick: bool) -> dict[str, Any]:
    """The evaluation page's figures about SEGA; out: the folder for the curve."""
    result = {
        "cost": cost(lab, judge, [COST_SEED + i for i in range(4 if quick else 200)]),
        "cached": cached(lab, judge, [CACHE_SEED + i for i in range(4 if quick else 64)]),
        "transfer": transfer(lab, judge, [TRANSFER_SEED + i for i in range(4 if quick else 64)]),
    }
    if out is not None:
        plot(result["cost"], out / "refresh.webp")
        picture(lab, TRANSFER_SEED, out / "vectors.webp")
    return result
