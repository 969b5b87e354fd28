"""What the nodes that train make at their defaults: sliders from words, sliders from pictures, and subjects."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from demo.sliders import TARGET, poles

from .editing import pack
from .sliders import STRENGTHS, outside_error, rank_correlations, slide
from .sliders import possible_region as region_of
from .subject import CLASS, INSTANCE, marked, marked_person

# Kept apart from every seed that was used while the nodes were developed.
NOISE_SEED, COMPOSED_SEED, PRESERVE_SEED = 12_000_000, 12_100_000, 12_200_000
GAP_SEED, SUBJECT_SEED = 12_300_000, 12_400_000
PAIR_SEED, RENDER_SEED, PERSON_SEED = 96_001, 96_002, 96_003
NAMES = ("smile", "glasses", "gray_hair", "hat", "makeup")
COMPOSED = ("smile", "glasses", "makeup", "gray_hair", "beard", "bangs", "curls", "male")  # all can be judged together
COMPOSED_PROMPT = f"{TARGET} with no hat"
COPIES = 50
LEAKING, LEAKED = "gray_hair", "bangs"
PRESERVED = {"nothing": "", "a free forehead": "a free forehead"}
PAIR_SETTINGS: tuple[dict[str, Any], ...] = ({}, {"learning_rate": 0.005})
SUBJECT_SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"steps": 300},
    {"layers": "all linear", "learning_rate": 0.001},
    {"prior": "output"},
    {"prior_weight": 0.0},
)
GAP_PROMPT = "a portrait of a woman with straight hair, no glasses, no makeup and no hat"
EYES = (..., slice(36, 76), slice(24, 104))  # rows and columns of the picture that the eyes are in
RIDGE = 100.0
SIZE: dict[str, Any] = {"width": 128, "height": 128}
FIVE = (-2.0, -1.0, 0.0, 1.0, 2.0)
BATCH = 8
QUIET: dict[str, Any] = {"show_every": 100_000}  # one strip, at the end


def prompt(name: str) -> str:
    """Leaves room in both directions, as `sliders.prompt` does; with a hat it cannot deny one."""
    from demo.portraits.captions import PRESENT

    from .sliders import prompt

    return (
        f"a portrait of a woman with {PRESENT[name][0]}, straight hair and no beard" if name == "hat" else prompt(name)
    )


def silent(name: str) -> str:
    """The prompt without the attribute."""
    from demo.portraits.captions import PRESENT

    return prompt(name).replace(f"{PRESENT[name][0]}, ", "")


def with_room(name: str) -> str:
    """The prompt at which a dial can go both ways. Make-up that is asked for is at the classifier's end at 0 already;
    unasked, a third of the pictures have it."""
    return silent(name) if name == "makeup" else prompt(name)


possible_region = functools.cache(region_of)


def trained(node: str, *given: Any, **settings: Any) -> tuple[dict[str, Tensor], float]:
    """(slider, seconds) of a node that trains, at its defaults but for `settings`."""
    started = time.perf_counter()
    with torch.inference_mode():
        slider = getattr(pack("nodes.training"), node).execute(*given, **QUIET, **settings).result[0]
    return slider, time.perf_counter() - started


def of_words(lab: Any, name: str, **settings: Any) -> tuple[dict[str, Tensor], float]:
    return trained("SliderTrainText", lab.model, lab.clip, TARGET, *poles(name), **SIZE, **settings)


def pictures(lab: Any, model: Any, seeds: Sequence[int], text: str) -> Tensor:
    """[N, 3, 128, 128]"""
    return pictures_of(lab, model, seeds, lab.encode(text))


def pictures_of(lab: Any, model: Any, seeds: Sequence[int], positive: Any) -> Tensor:
    parts = [lab.pictures(list(seeds[i : i + BATCH]), positive, model) for i in range(0, len(seeds), BATCH)]
    return torch.cat(parts)


def known(answers: Tensor) -> Tensor:
    """Which of a photo's attributes can be judged, bool [N, 10]."""
    from demo.portraits.attributes import judgeable

    return judgeable(answers, torch.zeros(len(answers), dtype=torch.long))


def others_changed(one: Tensor, other: Tensor, index: int) -> float:
    """Share of (picture, attribute) pairs, of what can be judged in both and is not `index`, answered differently.
    one, other: the judge's logits [N, 10]."""
    one, other = one > 0, other > 0
    both = known(one) & known(other)
    both[:, index] = False
    return float(((one != other) & both).sum() / both.sum())


def dial(
    lab: Any, judge: Any, name: str, slider: dict[str, Tensor], plain: Tensor, seeds: Sequence[int]
) -> dict[str, Any]:
    """A slider at nine strengths from the same noise. plain: the pictures without it."""
    made = {s: pictures(lab, slide(lab, slider, s), seeds, with_room(name)) if s else plain for s in STRENGTHS}
    return turned(judge, name, made)


def turned(judge: Any, name: str, made: dict[float, Tensor]) -> dict[str, Any]:
    """What the pictures of a dial show. made: {strength: pictures of the same seeds}, 0 and −1 and 1 among them."""
    from demo.portraits.attributes import INDEX

    index, where, strengths, plain = INDEX[name], possible_region(name), tuple(made), made[0.0]
    logits = {s: judge.logits(made[s]) for s in strengths}
    correlations = {
        each: rank_correlations(each, torch.stack([logits[s][:, index] for s in each])) for each in {strengths, FIVE}
    }
    return {
        "spearman": {str(len(each)): float(found.mean()) for each, found in correlations.items()},
        "lowest_spearman": {str(len(each)): float(found.min()) for each, found in correlations.items()},
        "logits": {f"{s:g}": float(logits[s][:, index].mean()) for s in strengths},
        "share": {f"{s:g}": float((logits[s][:, index] > 0).float().mean()) for s in strengths},
        "others_changed": {f"{s:g}": others_changed(logits[0.0], logits[s], index) for s in (-1.0, 1.0)},
        "outside": {f"{s:g}": outside_error(made[s], plain, where) for s in FIVE if s},
    }  # fmt: skip


def words(lab: Any, judge: Any, made: dict[str, tuple[dict[str, Tensor], float]], n: int) -> dict[str, Any]:
    """Sliders from words. made: {name: (slider, seconds)}."""
    seeds, result = range(NOISE_SEED, NOISE_SEED + n), {}
    for name, (slider, seconds) in made.items():
        plain = pictures(lab, lab.model, seeds, with_room(name))
        result[name] = {
            "prompt": with_room(name), "poles": poles(name), "seconds": seconds,
            **dial(lab, judge, name, slider, plain, seeds),
        }  # fmt: skip
    return result


def preserve(lab: Any, judge: Any, plain_slider: dict[str, Tensor], n: int, **settings: Any) -> dict[str, Any]:
    """Gray hair that comes with bangs, with and without a text that should stay."""
    from demo.portraits.attributes import INDEX

    seeds, asked, leaked, rows = range(PRESERVE_SEED, PRESERVE_SEED + n), INDEX[LEAKING], INDEX[LEAKED], {}
    before = judge.logits(pictures(lab, lab.model, seeds, COMPOSED_PROMPT))
    for title, lines in PRESERVED.items():
        slider, seconds = of_words(lab, LEAKING, preserve=lines, **settings) if lines else (plain_slider, None)
        row: dict[str, Any] = {"seconds": seconds}
        for strength in (1.0, 2.0):
            after = judge.logits(pictures(lab, slide(lab, slider, strength), seeds, COMPOSED_PROMPT))
            judged = known(before > 0) & known(after > 0)
            lacked = judged[:, leaked] & (before[:, leaked] <= 0)
            row[f"{strength:g}"] = {
                "shown": float((after[judged[:, asked], asked] > 0).float().mean()), "lacked": int(lacked.sum()),
                "leaked": int((after[lacked, leaked] > 0).sum()),
                "moved": float((after - before)[lacked, leaked].mean()),
                "others_changed": others_changed(before, after, asked),
            }  # fmt: skip
        rows[title] = row
    return {"prompt": COMPOSED_PROMPT, "rows": rows}


def composed(lab: Any, judge: Any, sliders: dict[str, dict[str, Tensor]], n: int) -> dict[str, Any]:
    """One, two, four and eight sliders at once: how many pictures that lack an attribute come to show it."""
    from demo.portraits.attributes import INDEX

    seeds = range(COMPOSED_SEED, COMPOSED_SEED + n)
    plain = pictures(lab, lab.model, seeds, COMPOSED_PROMPT)
    before, rows = judge.logits(plain), []
    groups = [COMPOSED[i : i + size] for size in (1, 2, 4, 8) for i in range(0, len(COMPOSED), size)]
    for strength in (1.0, 2.0):
        for group in groups:
            made = pictures(lab, behind(lab, [sliders[name] for name in group], strength), seeds, COMPOSED_PROMPT)
            after, where = judge.logits(made), torch.stack([possible_region(name) for name in group]).any(0)
            judged = known(before > 0) & known(after > 0)
            lacked = {name: judged[:, INDEX[name]] & (before[:, INDEX[name]] <= 0) for name in group}
            rows.append({
                "strength": strength, "sliders": group,
                "lacked": {name: int(rows.sum()) for name, rows in lacked.items()},
                "shown": {name: int((after[rows, INDEX[name]] > 0).sum()) for name, rows in lacked.items()},
                "outside": outside_error(made, plain, where), "region": float(where.float().mean()),
            })  # fmt: skip
    return {"prompt": COMPOSED_PROMPT, "rows": rows, "copies": copies(lab, sliders[COMPOSED[0]], plain, seeds)}


def behind(lab: Any, sliders: Sequence[dict[str, Tensor]], strength: float) -> Any:
    """The checkpoint's model behind a chain of Slider LoRA Loaders."""
    node, model = pack("nodes.sliders").SliderLoRALoader, lab.model
    for slider in sliders:
        model = node.execute(model=model, slider=slider, strength=strength).result[0]
    return model


def copies(lab: Any, slider: dict[str, Tensor], plain: Tensor, seeds: Sequence[int]) -> dict[str, float]:
    """A slider in many loaders, each with its share of a strength of 2, against one loader: differences in 1/255."""
    one = pictures(lab, behind(lab, [slider], 2.0), seeds, COMPOSED_PROMPT)
    many = pictures(lab, behind(lab, [slider] * COPIES, 2.0 / COPIES), seeds, COMPOSED_PROMPT)
    return {
        "copies": COPIES, "largest": float((many - one).abs().max() * 255),
        "mean": float((many - one).abs().mean() * 255), "slider": float((one - plain).abs().mean() * 255),
    }  # fmt: skip


def render_in_parts(portraits: Any) -> Tensor:
    from demo.portraits.renderer import render

    return torch.cat([render(portraits[rows]) for rows in torch.arange(len(portraits)).split(64)])


@torch.no_grad()
def encoded(lab: Any, renders: Tensor) -> dict[str, Tensor]:
    """What VAE Encode makes of them."""
    return {"samples": torch.cat([lab.vae.encode(part.movedim(1, -1)) for part in renders.split(BATCH)])}


@torch.no_grad()
def coded(lab: Any, renders: Tensor) -> Tensor:
    """The same pictures after the autoencoder."""
    return torch.cat(
        [lab.vae.decode(part).movedim(-1, 1).clamp(0, 1) for part in encoded(lab, renders)["samples"].split(BATCH)]
    )


def explained(guess: Tensor, truth: Tensor) -> float:
    """R²"""
    return 1 - float((guess - truth).square().sum() / (truth - truth.mean()).square().sum())


def eye_distance(lab: Any, quick: bool) -> tuple[Callable[[Tensor], Tensor], dict[str, float]]:
    """(estimate of the renderer's `gap` of pictures, how good it is on renders it has not seen): ridge regression on
    the pixels around the eyes at half size, of portraits such as `GAP_PROMPT` asks for."""
    from demo.portraits.renderer import NUISANCE, sample

    many, held, through = (300, 100, 16) if quick else (3000, 600, 64)
    portraits = sample(many + held, torch.Generator().manual_seed(RENDER_SEED)).with_style("photo")
    for name in ("male", "hat", "bald", "curls", "glasses", "makeup"):
        portraits = portraits.with_attribute(name, False)
    renders, truth = render_in_parts(portraits), portraits.nuisance[:, NUISANCE.index("gap")]

    def features(given: Tensor) -> Tensor:
        return functional.avg_pool2d(given[EYES], 2).flatten(1)

    seen, answers = features(renders[:many]), truth[:many]
    mean, spread = seen.mean(0), seen.std(0) + 1e-6
    known = (seen - mean) / spread
    weights = torch.linalg.solve(
        known.T @ known + RIDGE * torch.eye(known.shape[1]), known.T @ (answers - answers.mean())
    )

    def estimate(given: Tensor) -> Tensor:
        return (features(given) - mean) / spread @ weights + answers.mean()

    return estimate, {
        "renders": explained(estimate(renders[many:]), truth[many:]),
        "after_the_autoencoder": explained(estimate(coded(lab, renders[-through:])), truth[-through:]),
    }


def gap_pairs(lab: Any, n: int = 16) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """(before, after, where they differ): the same people with their eyes close together and far apart."""
    from demo.portraits.renderer import NUISANCE, sample

    portraits = sample(n, torch.Generator().manual_seed(PAIR_SEED)).with_style("photo").with_attribute("hat", False)
    sides = []
    for value in (0.0, 1.0):
        portraits.nuisance[:, NUISANCE.index("gap")] = value
        sides.append(render_in_parts(portraits))
    where = ((sides[0] - sides[1]).abs().amax(1) > 1 / 255).any(0)
    return encoded(lab, sides[0]), encoded(lab, sides[1]), where


def pairs(lab: Any, estimate: Callable[[Tensor], Tensor], n: int, **settings: Any) -> dict[str, Any]:
    """A slider from pairs of pictures that differ in the distance of the eyes, which no caption names."""
    with torch.inference_mode():
        before, after, where = gap_pairs(lab)
        target = lab.encode(TARGET)
    slider, seconds = trained("SliderTrainImages", lab.model, before, after, conditioning=target, **settings)
    seeds = range(GAP_SEED, GAP_SEED + n)
    made = {s: pictures(lab, slide(lab, slider, s), seeds, GAP_PROMPT) for s in FIVE}
    guesses = torch.stack([estimate(made[s]) for s in FIVE])
    means, strengths = guesses.mean(1), torch.tensor(FIVE)
    slope = float((means * strengths).sum() / strengths.square().sum())
    return {
        "settings": settings, "seconds": seconds, "slope": slope,
        "linearity": explained(means.mean() + slope * strengths, means),
        "means": {f"{s:g}": float(mean) for s, mean in zip(FIVE, means, strict=True)},
        "spearman": float(rank_correlations(FIVE, guesses).mean()),
        "outside": {f"{s:g}": outside_error(made[s], made[0.0], where) for s in FIVE if s},
        "inside": {f"{s:g}": outside_error(made[s], made[0.0], ~where) for s in FIVE if s},
    }  # fmt: skip


def diversity(judge: Any, given: Tensor) -> dict[str, float]:
    """How much the pictures of one text differ: their pixels over the seeds (standard deviation, in 1/255), and the
    entropy of the classifier's answers (bits, mean over the attributes)."""
    share = (judge.logits(given) > 0).float().mean(0).double().clamp(1e-9, 1 - 1e-9)
    bits = -(share * share.log2() + (1 - share) * (1 - share).log2())
    return {"pixels": float(given.var(0).mean().sqrt() * 255), "bits": float(bits.mean())}


def subject(lab: Any, judge: Any, n: int, **settings: Any) -> dict[str, Any]:
    """A marked person bound to a word: how often the mark comes with the word and without, and what the class loses."""
    with torch.inference_mode():
        instance, texts = encoded(lab, marked_person(PERSON_SEED)), (lab.encode(INSTANCE), lab.encode(CLASS))
    slider, seconds = trained("DreamBoothTrain", lab.model, instance, *texts, **settings)
    return {"settings": settings, "seconds": seconds, **subject_figures(lab, judge, slide(lab, slider, 1.0, 0.0), n)}


def subject_figures(lab: Any, judge: Any, model: Any, n: int) -> dict[str, Any]:
    seeds = range(SUBJECT_SEED, SUBJECT_SEED + n)
    with_word, without = (pictures(lab, model, seeds, text) for text in (INSTANCE, CLASS))
    return {
        "with_word": float(marked(with_word).float().mean()), "without": float(marked(without).float().mean()),
        **diversity(judge, without),
    }  # fmt: skip


def figures(lab: Any, judge: Any, out: Path | None, quick: bool) -> dict[str, Any]:
    """The evaluation page's figures about training."""
    few: dict[str, Any] = {"steps": 4} if quick else {}
    n = 2 if quick else 24
    made = {name: of_words(lab, name, **few) for name in dict.fromkeys([*NAMES, *COMPOSED])}
    sliders = {name: slider for name, (slider, _) in made.items()}
    estimate, quality = eye_distance(lab, quick)
    many = 2 if quick else 32
    return {
        "words": words(lab, judge, {name: made[name] for name in NAMES}, n),
        "pairs": {
            "estimator": quality,
            "rows": [pairs(lab, estimate, 2 if quick else 16, **(settings | few)) for settings in PAIR_SETTINGS],
        },
        "subject": {
            "frozen": subject_figures(lab, judge, lab.model, many),
            "rows": [subject(lab, judge, many, **(settings | few)) for settings in SUBJECT_SETTINGS],
        },
        "preserve": preserve(lab, judge, sliders[LEAKING], 2 * n, **few),
        "composed": composed(lab, judge, sliders, n),
    }
