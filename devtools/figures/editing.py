"""Editing given pictures on the portraits domain: inversion, masks and edits, measured against the known truth."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..host import load_pack

# Kept apart from every seed that was used while the pack was developed.
ROUND_TRIP_SEED, PAIR_SEED = 91_001, 91_003
LARGEST_REGION = 0.4  # of the picture
CELL_SHARE = 0.25  # of a cell that the region has to cover
METHODS = ("DiffEdit", "DiffEdit without mask", "DiffEdit without encoding", "SDEdit")
BATCH = 16


def pack(module: str) -> Any:
    return importlib.import_module(f"{load_pack().__name__}.{module}")


@dataclass(frozen=True)
class Pair:
    """A portrait and one attribute to switch: whether it should be there, and where it is (or would be) seen."""

    row: int
    attribute: str
    wanted: bool
    region: Tensor  # bool [H, W]

    @property
    def cells(self) -> Tensor:
        """bool [h, w] at latent size."""
        share = torch.nn.functional.avg_pool2d(self.region.float()[None], 8)[0]
        return share >= CELL_SHARE


def photos(n: int, seed: int) -> tuple[Any, Tensor]:
    """n unseen portraits in the photo style, and their pictures [N, 3, 128, 128]."""
    from demo.portraits.renderer import render, sample

    portraits = sample(n, torch.Generator().manual_seed(seed)).with_style("photo")
    return portraits, (render(portraits) * 255).round() / 255


def pairs_of(portraits: Any) -> list[Pair]:
    """Every attribute of every portrait that can be seen and whose region is neither empty nor over 40 % large."""
    from demo.portraits.attributes import ATTRIBUTES, BALD_EXCLUDES, INDEX, judgeable
    from demo.portraits.renderer import region

    known = judgeable(portraits.attributes, portraits.style)
    found = []
    for row in range(len(portraits)):
        has = dict(zip(ATTRIBUTES, portraits.attributes[row].tolist(), strict=True))
        for name in ATTRIBUTES:
            if not known[row, INDEX[name]] or (has["bald"] and name in BALD_EXCLUDES):
                continue
            pair = Pair(row, name, not has[name], region(portraits[row : row + 1], name)[0])
            if pair.cells.any() and pair.region.float().mean() <= LARGEST_REGION:
                found.append(pair)
    return found


def text(portraits: Any, pair: Pair, wanted: bool) -> str:
    """'a portrait of a woman with glasses' or '... with no glasses'."""
    from demo.portraits.attributes import INDEX
    from demo.portraits.captions import ABSENT, PEOPLE, PRESENT

    male = bool(portraits.attributes[pair.row, INDEX["male"]])
    if pair.attribute == "male":
        return f"a portrait of a {PEOPLE[wanted][0]}"
    return f"a portrait of a {PEOPLE[male][0]} with {(PRESENT if wanted else ABSENT)[pair.attribute][0]}"


def decibels(decoded: Tensor, latents: Tensor) -> Tensor:
    """PSNR of each latent; the peak is its own range."""
    span = latents.flatten(1).amax(1) - latents.flatten(1).amin(1)
    return 10 * torch.log10(span**2 / (decoded - latents).flatten(1).square().mean(1))


def decode(lab: Any, inversion: Any, positive: Any, negative: Any, cfg: float, mask: Tensor | None = None) -> Tensor:
    """DiffEdit Sampler; everywhere where there is no mask."""
    mask = torch.ones(1, 128, 128) if mask is None else mask
    node = pack("nodes.diffedit").DiffEditSampler
    return node.execute(lab.model, positive, negative, inversion, mask, cfg).result[0]["samples"]


@torch.no_grad()
def round_trip(lab: Any, n: int = 32) -> list[dict[str, Any]]:
    """Invert and decode with the same empty prompt at cfg 1: dB in latent space by steps, denoise and method."""
    _, pictures = photos(n, ROUND_TRIP_SEED)
    latents, empty = lab.vae.encode(pictures.movedim(1, -1)), lab.encode("")
    node, rows = pack("nodes.inversion").DDIMInvert, []
    for steps in (25, 50):
        for denoise in (0.8, 1.0):
            for method, rounds in [("ddim", 1), *(("fixed point", i) for i in (2, 4, 8))]:
                row: dict[str, Any] = {"steps": steps, "denoise": denoise, "method": method, "rounds": rounds}
                try:
                    inversion = node.execute(
                        lab.model, empty, {"samples": latents}, steps, "normal", denoise, method=method,
                        iterations=rounds,
                    ).result[0]  # fmt: skip
                except ValueError as refused:
                    rows.append(row | {"refused": str(refused)})
                    continue
                db = decibels(decode(lab, inversion, empty, empty, 1.0), latents)
                row |= {
                    "evaluations_per_step": inversion.evaluations / (len(inversion.sigmas) - 1),
                    "lowest_db": float(db.min()), "mean_db": float(db.mean()),
                    "residual": max(inversion.residuals, default=None),
                }  # fmt: skip
                rows.append(row)
    return rows


@torch.no_grad()
def round_trip_with_guidance(lab: Any, n: int = 4) -> list[dict[str, Any]]:
    """The same with a prompt and cfg above 1, where nothing is promised; a refusal's residual is part of its text."""
    _, pictures = photos(n, ROUND_TRIP_SEED)
    latents = lab.vae.encode(pictures.movedim(1, -1))
    prompt, empty = lab.encode("a portrait of a person"), lab.encode("")
    node, rows = pack("nodes.inversion").DDIMInvert, []
    for cfg in (1.0, 1.5, 2.0, 3.0, 5.0, 7.5):
        for denoise in (0.2, 0.4, 0.6, 0.8, 1.0):
            row: dict[str, Any] = {"cfg": cfg, "denoise": denoise}
            try:
                inversion = node.execute(
                    lab.model, prompt, {"samples": latents}, 25, "normal", denoise, cfg, negative=empty
                ).result[0]
            except ValueError as refused:
                rows.append(row | {"refused": str(refused)})
                continue
            db = decibels(decode(lab, inversion, prompt, empty, cfg), latents)
            rows.append(row | {
                "lowest_db": float(db.min()), "mean_db": float(db.mean()), "residual": max(inversion.residuals),
            })  # fmt: skip
    return rows


def differences(lab: Any, portraits: Any, latents: Tensor, pairs: list[Pair], strength: float, maps: int) -> Tensor:
    """DiffEdit Mask's mean |Δn| for every pair, [N, h, w]."""
    host = pack("nodes.host.editing.diffedit")
    parts = []
    for start in range(0, len(pairs), BATCH):
        some = pairs[start : start + BATCH]
        source = lab.encode([text(portraits, pair, not pair.wanted) for pair in some])
        target = lab.encode([text(portraits, pair, pair.wanted) for pair in some])
        samples = latents[[pair.row for pair in some]]
        parts.append(host.estimate_difference(lab.model, source, target, samples, strength, maps, 0))
    return torch.cat(parts)


def overlap(mask: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of bool masks [N, h, w]."""
    return (mask & truth).flatten(1).sum(1) / (mask | truth).flatten(1).sum(1)


@torch.no_grad()
def masks(lab: Any, n: int = 24, quick: bool = False, seed: int = PAIR_SEED) -> dict[str, Any]:
    """Mean IoU of the binarised heat map with the true region, both at latent size, before grow and blur."""
    core = pack("guidance_core")
    portraits, pictures = photos(n, seed)
    pairs = pairs_of(portraits)
    latents, truth = lab.vae.encode(pictures.movedim(1, -1)), torch.stack([pair.cells for pair in pairs])
    thresholds = [round(0.05 * i, 2) for i in range(1, 20)]
    table = []
    settings = [(0.5, 10)] if quick else [*((s, 10) for s in (0.25, 0.375, 0.5, 0.625, 0.75)), (0.5, 1), (0.5, 3)]
    by_attribute: dict[str, Any] = {}
    for strength, maps in settings:
        heat = core.heatmap(differences(lab, portraits, latents, pairs, strength, maps), 3.0)
        scores = torch.stack([overlap(heat > threshold, truth) for threshold in thresholds])
        means = scores.mean(1)
        table.append({
            "strength": strength, "maps": maps,
            "iou": {str(t): float(means[thresholds.index(t)]) for t in (0.25, 0.5, 0.75)},
            "best_threshold": thresholds[int(means.argmax())], "iou_at_best": float(means.max()),
        })  # fmt: skip
        if (strength, maps) == (0.5, 10):
            default = scores[thresholds.index(0.5)]
            for name in sorted({pair.attribute for pair in pairs}):
                rows = [i for i, pair in enumerate(pairs) if pair.attribute == name]
                by_attribute[name] = {"iou": float(default[rows].mean()), "pairs": len(rows)}
    return {"pairs": len(pairs), "table": table, "by_attribute": by_attribute}


@torch.no_grad()
def edits(
    lab: Any, judge: Any, n: int = 16, quick: bool = False, cfg: float = 7.5, seed: int = PAIR_SEED + 1
) -> dict[str, Any]:
    """The paper's trade-off: for each method and encoding ratio r, how many pairs become as asked, and how much the
    picture changes outside the true region (mean absolute difference of decoded pictures, in 1/255)."""
    from demo.portraits.attributes import INDEX

    core, masking = pack("guidance_core"), pack("nodes.host.conditioning.masks")
    portraits, pictures = photos(n, seed)
    latents = lab.vae.encode(pictures.movedim(1, -1))
    plain = _pictures(lab, latents)
    before = judge.probabilities(plain) > 0.5
    pairs = [p for p in pairs_of(portraits) if bool(before[p.row, INDEX[p.attribute]]) != p.wanted]
    heat = core.heatmap(differences(lab, portraits, latents, pairs, 0.5, 10), 3.0)
    grown = core.grow_mask(masking.to_pictures(core.binarise(heat, 0.5), (128, 128), 1), 8)
    found = core.blur_mask(grown, 8)
    ratios = (0.7,) if quick else (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
    curves: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    # Each picture is inverted to pure noise once; a shorter encoding is the first levels of a longer one.
    node, empty = pack("nodes.inversion").DDIMInvert, lab.encode("")
    inversions = {
        method: node.execute(lab.model, empty, {"samples": latents}, 25, "normal", 1.0, method=method).result[0]
        for method in ("fixed point", "random")
    }
    for ratio in ratios:
        for method in METHODS:
            encoded = "random" if method in ("DiffEdit without encoding", "SDEdit") else "fixed point"
            masked = method in ("DiffEdit", "DiffEdit without encoding")
            inversion = inversions[encoded]
            kept = int((len(inversion.sigmas) - 1) * ratio + 1e-6) + 1
            done = []
            for start in range(0, len(pairs), BATCH):
                some = slice(start, start + BATCH)
                rows = [pair.row for pair in pairs[some]]
                part = dataclasses.replace(
                    inversion, sigmas=inversion.sigmas[:kept], samples=inversion.samples[rows],
                    latents=[state[rows] for state in inversion.latents[:kept]],
                )  # fmt: skip
                target = lab.encode([text(portraits, pair, pair.wanted) for pair in pairs[some]])
                done.append(decode(lab, part, target, empty, cfg, found[some] if masked else None))
            after = _pictures(lab, torch.cat(done))
            curves[method].append({"ratio": ratio, **_score(judge, pairs, plain, after)})
    return {"pairs": len(pairs), "cfg": cfg, "curves": curves}


def _pictures(lab: Any, latents: Tensor) -> Tensor:
    return torch.cat([lab.vae.decode(part).movedim(-1, 1).clamp(0, 1) for part in latents.split(BATCH)])


def _score(judge: Any, pairs: list[Pair], plain: Tensor, after: Tensor) -> dict[str, float]:
    from demo.portraits.attributes import INDEX

    answers = judge.probabilities(after) > 0.5
    right = [bool(answers[i, INDEX[pair.attribute]]) == pair.wanted for i, pair in enumerate(pairs)]
    difference = (after - plain[[pair.row for pair in pairs]]).abs().mean(1) * 255
    outside = [difference[i][~pair.region].mean() for i, pair in enumerate(pairs)]
    return {"success": sum(right) / len(right), "background_error": float(torch.stack(outside).mean())}


def plot(result: dict[str, Any], file: Path) -> None:
    """The trade-off curves as one picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.4), dpi=110)
    for marker, (method, points) in zip("osD^", result["curves"].items(), strict=True):
        axes.plot(
            [p["background_error"] for p in points], [100 * p["success"] for p in points], marker=marker, label=method
        )
        for point in points:
            axes.annotate(
                f"{point['ratio']:g}", (point["background_error"], 100 * point["success"]), fontsize=6,
                textcoords="offset points", xytext=(4, -7),
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([2, 5, 10, 20, 40], labels=["2", "5", "10", "20", "40"])
    axes.minorticks_off()
    axes.set_xlabel("change outside the true region (mean, 1/255)")
    axes.set_ylabel("pictures as asked (%)")
    axes.set_title(f"{result['pairs']} edits of unseen portraits, encoding ratio at each point", fontsize=9)
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file, pil_kwargs={"quality": 65, "method": 6})
    pyplot.close(figure)


def figures(lab: Any, judge: Any, out: Path | None, quick: bool) -> dict[str, Any]:
    """The evaluation page's figures about given pictures; out: the folder for the trade-off curve."""
    result = {
        "round_trip": round_trip(lab, 4 if quick else 32),
        "round_trip_with_guidance": round_trip_with_guidance(lab, 2 if quick else 4),
        "masks": masks(lab, 6 if quick else 24, quick),
        "edits": edits(lab, judge, 4 if quick else 16, quick),
    }
    if out is not None:
        plot(result["edits"], out / "trade-off.webp")
    return result
