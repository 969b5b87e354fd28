"""What a strip of `dev.py pictures` is made of, and the nodes that its takes add to a workflow file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from demo.sliders import TARGET

from ..demo.scenes import SIZE
from ..server.client import Prompt

BEFORE, AGAIN, AFTER, SAVED, PLACE, HEAT = "before", "again", "after", "saved", "place", "heat"
HELP, DOCS = "web/docs/img", "docs/img"  # a help page in ComfyUI can only show what lies under web/
CHECKPOINT, CONCEPT, GUIDANCE, MASK = "CheckpointLoaderSimple", "SEGAConcept", "SEGAGuidance", "DiffEditMask"
Changes = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Take:
    """One picture of a strip.

    label: its caption, lines separated by a line break. changes: {class, title or id of a node: {input: value}}.
    added: nodes beside the workflow's own. shows: BEFORE, AGAIN (the middle one of three) or AFTER of the workflow's
    comparison; SAVED, what the workflow itself saves; or the id of an added preview, of which PLACE is drawn over
    the picture as a mask. workflow: another file than the strip's.
    """

    label: str
    changes: Changes = field(default_factory=dict)
    added: Prompt = field(default_factory=dict)
    shows: str = AFTER
    workflow: str = ""


@dataclass(frozen=True)
class Picture:
    """A strip: the demo's scene of a workflow file with one seed. common: what is changed for all its takes.

    columns: at most that many pictures in a row; three can still be read in the page's narrow help panel.
    """

    workflow: str
    seed: int
    takes: tuple[Take, ...]
    common: Changes = field(default_factory=dict)
    folder: str = HELP
    side: int = SIZE
    columns: int = 3


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def text(words: str) -> dict[str, Any]:
    return node("CLIPTextEncode", text=words, clip=[CHECKPOINT, 1])


# DiffEdit Mask's own preview is no output: the server does not send it again for a mask that it has kept.
FOUND: Prompt = {"found": node("MaskToImage", mask=[MASK, 0]), PLACE: node("PreviewImage", images=["found", 0])}
HEATED: Prompt = {"hot": node("MaskToImage", mask=[MASK, 1]), HEAT: node("PreviewImage", images=["hot", 0])}
EVERYWHERE: Prompt = {"everywhere": node("SolidMask", value=1.0, width=SIZE, height=SIZE)}
EYES: Prompt = {
    "black": node("SolidMask", value=0.0, width=SIZE, height=SIZE),
    "white": node("SolidMask", value=1.0, width=80, height=40),
    "eyes": node("MaskComposite", destination=["black", 0], source=["white", 0], x=24, y=44, operation="add"),
}


def values(
    kind: str, name: str, captions: dict[Any, str], shows: str = AFTER, added: Prompt | None = None
) -> tuple[Take, ...]:
    """One input of one node at several values: {value: what it does}."""

    def label(value: Any) -> str:
        return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"

    return tuple(
        Take(f"{label(value)}\n{words}", {kind: {name: value}}, added or {}, shows) for value, words in captions.items()
    )


def sega_sampler(seed: int) -> dict[str, Any]:
    """SEGA Sampler with the settings of the workflow's KSampler."""
    return node(
        "SEGASampler", model=[CHECKPOINT, 0], seed=seed, steps=25, cfg=5.0, sampler_name="euler", scheduler="normal",
        denoise=1.0, positive=["Positive prompt", 0], negative=["Negative prompt", 0],
        latent_image=["EmptyLatentImage", 0], momentum_scale=0.0, momentum_beta=0.4, threshold_over="channel",
        base="auto", concepts=[CONCEPT, 0],
    )  # fmt: skip


def activity(seed: int) -> Prompt:
    """Where the concept acted, previewed."""
    return {
        "sampled": sega_sampler(seed),
        "acted": node("MaskToImage", mask=["sampled", 1]),
        "activity": node("PreviewImage", images=["acted", 0]),
    }


def recorded(seed: int, words: str) -> Prompt:
    """The edit, recorded, on the model; and another prompt to use it with."""
    return {
        "sampled": sega_sampler(seed),
        "other prompt": text(words),
        "vectors": node("SEGAApplyVectors", model=[CHECKPOINT, 0], vectors=["sampled", 2], scale=1.0),
    }


def diffedit_of_generated(source: str, target: str) -> Prompt:
    """DiffEdit on the picture that a workflow generates, so that one original has edits of several methods."""
    return {
        "empty": text(""),
        "source": text(source),
        "target": text(target),
        "found": node(
            MASK, model=[CHECKPOINT, 0], source=["source", 0], target=["target", 0],
            latent_image=["KSampler: before", 0], strength=0.5, threshold=0.5, grow=0, blur=8, maps=10, clamp=3.0,
            seed=0,
        ),
        "inverted": node(
            "DDIMInvert", model=[CHECKPOINT, 0], positive=["empty", 0], latent_image=["KSampler: before", 0],
            steps=25, scheduler="normal", denoise=0.8, cfg=1.0, method="fixed point", iterations=8, seed=0,
        ),
        "edited": node(
            "DiffEditSampler", model=[CHECKPOINT, 0], positive=["target", 0], negative=["empty", 0],
            inversion=["inverted", 0], mask=["found", 0], cfg=5.0,
        ),
        "decoded": node("VAEDecode", samples=["edited", 0], vae=[CHECKPOINT, 2]),
        "pasted": node(
            "ImageCompositeMasked", destination=["VAE Decode: before", 0], source=["decoded", 0], mask=["found", 0],
            x=0, y=0, resize_source=False,
        ),
        "diffedit": node("PreviewImage", images=["pasted", 0]),
    }  # fmt: skip


def sega_sweep(words: str, scales: str) -> Take:
    """SEGA Sweep in the place of the slider of a workflow that makes a strip."""
    added = {
        "concept": node(
            CONCEPT, clip=[CHECKPOINT, 1], text=words, direction="add", scale=5.0, start_percent=0.2, threshold=0.9,
            end_percent=1.0,
        ),
        "swept": node("SEGASweep", concepts=["concept", 0], latent_image=["EmptyLatentImage", 0], scales=scales),
        "guided": node(
            GUIDANCE, model=[CHECKPOINT, 0], concepts=["swept", 0], momentum_scale=0.0, momentum_beta=0.4,
            threshold_over="channel", base="auto",
        ),
    }  # fmt: skip
    sampler = {"model": ["guided", 0], "latent_image": ["swept", 1]}
    return Take("", {"LabelledStrip": {"labels": ["swept", 2]}, "KSampler": sampler}, added, SAVED)


def of_four(*shown: str) -> Changes:
    """Of the four concepts of the file only these."""
    names = ("glasses", "smile", "gray hair", "beard")
    return {f"SEGA Concept: {name}": {"scale": 0.0} for name in names if name not in shown}


def inverted_plainly(steps: int, words: str) -> Take:
    """The papers' plain step, with that many of them, and the picture again."""
    changes = {
        "DDIMInvert": {"steps": steps, "method": "ddim"},
        "KSamplerAdvanced": {"steps": steps, "start_at_step": steps - int(steps * 0.8 + 1e-6)},
    }
    return Take(f"steps {steps}\n{words}", changes, shows=AGAIN)


def inverted_to(denoise: float, words: str) -> Take:
    """The picture inverted so far, then decoded with the new prompt."""
    start = 25 - int(25 * denoise + 1e-6)
    changes = {"DDIMInvert": {"denoise": denoise}, "KSamplerAdvanced": {"start_at_step": start}}
    return Take(f"denoise {denoise:g}\n{words}", changes)


def directed(label: str, strength: float, prompt: str, positive: str, negative: str) -> Take:
    """Text Direction between a prompt and the sampler of a slider's workflow file, without the slider."""
    moved = node(
        "TextDirection", conditioning=["Positive prompt", 0], clip=[CHECKPOINT, 1], positive=positive,
        negative=negative, strength=strength,
    )  # fmt: skip
    changes = {
        "Positive prompt": {"text": prompt},
        "KSampler: after": {"model": [CHECKPOINT, 0], "positive": ["direction", 0]},
    }
    return Take(label, changes, {"direction": moved})


TRAINED = "train"  # the added node whose own strip is shown
TRAINING: dict[str, Any] = {
    "rank": 4, "alpha": 1.0, "layers": "no cross-attention", "learning_rate": 0.002, "batch_size": 4,
    "start_percent": 0.0, "show_every": 10_000, "seed": 3, "cfg": 5.0,
}  # fmt: skip
LOADED = {"model": [CHECKPOINT, 0], "vae": [CHECKPOINT, 2]}


def batch_of(words: str) -> dict[str, Any]:
    """A KSampler that makes the added "batch" by an added text."""
    return node(
        "KSampler", model=[CHECKPOINT, 0], seed=5, steps=20, cfg=5.0, sampler_name="euler", scheduler="normal",
        denoise=1.0, positive=[words, 0], negative=["nothing", 0], latent_image=["batch", 0],
    )  # fmt: skip


def trained_by_text(label: str, positive: str, negative: str, steps: int, **inputs: Any) -> Take:
    """The strip of a slider from two texts, by what follows "a portrait of a person"."""
    texts = {"target": TARGET, "positive": f"{TARGET} {positive}", "negative": f"{TARGET} {negative}", "preserve": ""}
    settings = {**TRAINING, **texts, "guidance": 1.75, "end_percent": 0.8, "width": SIZE, "height": SIZE}
    train = node("SliderTrainText", **LOADED, clip=[CHECKPOINT, 1], **{**settings, "steps": steps, **inputs})
    return Take(label, added={TRAINED: train}, shows=TRAINED)


def trained_by_pairs(label: str, count: int, steps: int, change: str, without: str) -> Take:
    """The strip of a slider from pictures of two prompts with the same noise."""
    train = node(
        "SliderTrainImages", **LOADED, before=["pictures before", 0], after=["pictures after", 0],
        conditioning=["person", 0], strengths="", **{**TRAINING, "steps": steps, "end_percent": 1.0},
    )  # fmt: skip
    added = {
        "batch": node("EmptyLatentImage", width=SIZE, height=SIZE, batch_size=count),
        "person": text(TARGET), "nothing": text(""), "words before": text(without), "words after": text(change),
        "pictures before": batch_of("words before"), "pictures after": batch_of("words after"), TRAINED: train,
    }  # fmt: skip
    return Take(label, added=added, shows=TRAINED)
