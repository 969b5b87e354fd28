"""Which pictures `dev.py pictures` makes: workflow file, seed, and for each picture of a strip what is set otherwise.

The captions say what is seen on the demo checkpoint, so look at a picture again after changing its takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .client import Prompt
from .scenes import SIZE

BEFORE, AGAIN, AFTER, PREVIEW, PLACE = "before", "again", "after", "preview", "place"
HELP, DOCS = "web/docs/img", "docs/img"  # a help page in ComfyUI can only show what lies under web/
Changes = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Take:
    """One picture of a strip.

    label: its caption, lines separated by a line break. changes: {class, title or id of a node: {input: value}}.
    added: nodes beside the workflow's own. shows: one of the words above, or the id of an added preview;
    that of PLACE is drawn over the picture as a mask.
    workflow: another file than the strip's.
    """

    label: str
    changes: Changes = field(default_factory=dict)
    added: Prompt = field(default_factory=dict)
    shows: str = AFTER
    workflow: str = ""


@dataclass(frozen=True)
class Picture:
    """A strip: the demo's scene of a workflow file with one seed. common: applied before each take."""

    workflow: str
    seed: int
    takes: tuple[Take, ...]
    common: Take = field(default_factory=lambda: Take(""))
    folder: str = HELP
    side: int = SIZE


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def takes(
    kind: str, name: str, captions: dict[Any, str], shows: str = AFTER, added: Prompt | None = None
) -> tuple[Take, ...]:
    """One input of one node at several values: {value: what it does}."""

    def label(value: Any) -> str:
        return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"

    return tuple(
        Take(f"{label(value)}\n{words}", {kind: {name: value}}, added or {}, shows)
        for value, words in captions.items()
    )


def masks(name: str, captions: dict[Any, str]) -> tuple[Take, ...]:
    """The same of DiffEdit Mask, shown over the picture."""
    return takes(MASK, name, captions, PLACE, FOUND)


ORIGINAL = Take("without", shows=BEFORE)
SEGA, SLIDER, DIFFEDIT = "sega_one_concept", "slider_basic", "diffedit_replace"
INVERT = "ddim_invert_reconstruct"
CONCEPT, GUIDANCE, LOADER, MASK = "SEGAConcept", "SEGAGuidance", "SliderLoRALoader", "DiffEditMask"


def concept(text: str, **inputs: Any) -> Take:
    return Take("", {CONCEPT: {"text": text, **inputs}})


def prompted(words: str, **inputs: Any) -> Take:
    return Take("", {"Positive prompt": {"text": words}, CONCEPT: inputs})


FACE: Prompt = {
    "black": node("SolidMask", value=0.0, width=SIZE, height=SIZE),
    "white": node("SolidMask", value=1.0, width=80, height=40),
    "face": node("MaskComposite", destination=["black", 0], source=["white", 0], x=24, y=44, operation="add"),
}
LARGE_MASK: Prompt = {"everywhere": node("SolidMask", value=1.0, width=SIZE, height=SIZE)}
# The node's own preview is no output, so the server does not send it again for a mask that it has kept.
FOUND: Prompt = {"found": node("MaskToImage", mask=[MASK, 0]), PLACE: node("PreviewImage", images=["found", 0])}
HEAT: Prompt = {
    "heat": node("MaskToImage", mask=[MASK, 1]),
    "heat preview": node("PreviewImage", images=["heat", 0]),
}
SAMPLED = {"steps": 25, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}


def sega_sampler(seed: int) -> dict[str, Any]:
    """SEGA Sampler in the place of the workflow's second KSampler."""
    return node(
        "SEGASampler", model=["CheckpointLoaderSimple", 0], seed=seed, **SAMPLED, positive=["Positive prompt", 0],
        negative=["Negative prompt", 0], latent_image=["EmptyLatentImage", 0], momentum_scale=0.0, momentum_beta=0.4,
        threshold_over="channel", base="auto", concepts=[CONCEPT, 0],
    )  # fmt: skip


def activity(seed: int) -> Prompt:
    return {
        "sampled": sega_sampler(seed),
        "acted": node("MaskToImage", mask=["sampled", 1]),
        "activity": node("PreviewImage", images=["acted", 0]),
    }


def recorded(seed: int) -> Prompt:
    return {
        "sampled": sega_sampler(seed),
        "other prompt": node("CLIPTextEncode", text="a portrait of a woman with bangs and no hat", clip=["CheckpointLoaderSimple", 1]),
        "vectors": node("SEGAApplyVectors", model=["CheckpointLoaderSimple", 0], vectors=["sampled", 2], scale=1.0),
    }  # fmt: skip


# DiffEdit on the picture that the SEGA workflow generates, for one original with three edits.
GENERATED_DIFFEDIT: Prompt = {
    "empty": node("CLIPTextEncode", text="", clip=["CheckpointLoaderSimple", 1]),
    "source": node("CLIPTextEncode", text="a portrait of a woman with no smile", clip=["CheckpointLoaderSimple", 1]),
    "target": node("CLIPTextEncode", text="a portrait of a woman with a smile", clip=["CheckpointLoaderSimple", 1]),
    "found": node(
        MASK, model=["CheckpointLoaderSimple", 0], source=["source", 0], target=["target", 0],
        latent_image=["KSampler: before", 0], strength=0.5, threshold=0.5, grow=0, blur=8, maps=10, clamp=3.0, seed=0,
    ),
    "inverted": node(
        "DDIMInvert", model=["CheckpointLoaderSimple", 0], positive=["empty", 0],
        latent_image=["KSampler: before", 0], steps=25, scheduler="normal", denoise=0.8, cfg=1.0,
        method="fixed point", iterations=8, seed=0,
    ),
    "edited": node(
        "DiffEditSampler", model=["CheckpointLoaderSimple", 0], positive=["target", 0], negative=["empty", 0],
        inversion=["inverted", 0], mask=["found", 0], cfg=5.0,
    ),
    "decoded": node("VAEDecode", samples=["edited", 0], vae=["CheckpointLoaderSimple", 2]),
    "pasted": node(
        "ImageCompositeMasked", destination=["VAE Decode: before", 0], source=["decoded", 0], mask=["found", 0],
        x=0, y=0, resize_source=False,
    ),
    "diffedit": node("PreviewImage", images=["pasted", 0]),
}  # fmt: skip
ONE_PROMPT = "a portrait of a woman with straight hair and no hat"


def four(*shown: str) -> Changes:
    """Of the four concepts of the file only these."""
    names = ("glasses", "smile", "gray hair", "beard")
    return {f"SEGA Concept: {name}": {"scale": 0.0} for name in names if name not in shown}


def plain_inversion(steps: int, words: str) -> Take:
    """The papers' plain step with ever more steps."""
    changes = {
        "DDIMInvert": {"steps": steps, "method": "ddim"},
        "KSamplerAdvanced": {"steps": steps, "start_at_step": steps - int(steps * 0.8 + 1e-6)},
    }
    return Take(f"steps {steps}\n{words}", changes, shows=AGAIN)


def climbed(denoise: float, words: str) -> Take:
    """The picture inverted so far, then decoded with the new prompt."""
    start = 25 - int(25 * denoise + 1e-6)
    changes = {"DDIMInvert": {"denoise": denoise}, "KSamplerAdvanced": {"start_at_step": start}}
    return Take(f"denoise {denoise:g}\n{words}", changes)


PICTURES: dict[str, Picture] = {
    "overview": Picture(
        SEGA, 2,
        (
            Take("the picture", shows=BEFORE),
            Take("SEGA: glasses"),
            Take("slider: make-up", {LOADER: {"lora_name": "makeup.safetensors"},
                 "Positive prompt": {"text": ONE_PROMPT}}, workflow=SLIDER),
            Take("DiffEdit: a smile", added=GENERATED_DIFFEDIT, shows="diffedit"),
        ),
        folder=DOCS, side=2 * SIZE,
    ),
    # SEGA
    "sega-concepts": Picture("sega_four_concepts", 2, (
        ORIGINAL, Take("+ glasses", four("glasses")), Take("+ glasses\n+ smile", four("glasses", "smile")),
        Take("+ glasses, smile\n+ gray hair", four("glasses", "smile", "gray hair")),
        Take("+ these three\n- beard"),
    )),
    "sega-scale": Picture(SEGA, 3, (
        ORIGINAL,
        *takes(CONCEPT, "scale", {0.5: "too low: only other eyes", 1.0: "a hint", 5.0: "right", 20.0: "too high: another person"}),
    )),
    "sega-remove": Picture(SEGA, 2, (
        ORIGINAL, *takes(CONCEPT, "scale", {2.0: "too low", 8.0: "right", 20.0: "too high"}),
    ), prompted(
        "a portrait of a man with a beard and no hat", text="beard", direction="remove", start_percent=0.1, threshold=0.8,
    )),
    "sega-start": Picture(SEGA, 2, (
        ORIGINAL, *takes(CONCEPT, "start_percent", {
            0.0: "too early: other colours", 0.2: "still others", 0.4: "right here", 0.8: "too late: nothing",
        }),
    ), concept("man")),
    "sega-end": Picture(SEGA, 2, (
        ORIGINAL, *takes(CONCEPT, "end_percent", {0.3: "too low: eyes only", 0.6: "enough here", 1.0: "right"}),
    )),
    "sega-threshold-low": Picture(SEGA, 2, (
        ORIGINAL, *takes(CONCEPT, "threshold", {0.0: "too low: shirt and backdrop", 0.9: "less", 0.99: "right here"}),
    ), concept("glasses", scale=10.0)),
    "sega-threshold-high": Picture(SEGA, 4, (
        ORIGINAL, *takes(CONCEPT, "threshold", {0.9: "right", 0.999: "too high: one lens"}),
    )),
    "sega-mask": Picture(SEGA, 4, (
        ORIGINAL, Take("no mask: a hat comes with it"), Take("mask over the eyes", {CONCEPT: {"mask": ["face", 0]}}, FACE),
    ), concept("glasses", scale=10.0)),
    "sega-momentum": Picture(SEGA, 3, (
        ORIGINAL, *takes(GUIDANCE, "momentum_scale", {0.0: "the default", 0.5: "the same here", 1.0: "too high"}),
    )),
    "sega-refresh": Picture(SEGA, 3, (
        ORIGINAL, *takes(GUIDANCE, "refresh", {1: "each step", 2: "the same", 10: "heavier frames"}),
    )),
    "sega-activity": Picture(SEGA, 3, (
        ORIGINAL, Take("glasses"), Take("activity", added=activity(3), shows="activity"),
    )),
    "sega-sweep": Picture("slider_sweep_strip", 3, (Take("", {
        "LabelledStrip": {"labels": ["swept", 2]}, "KSampler": {"model": ["guided", 0], "latent_image": ["swept", 1]},
    }, {
        "gray": node(CONCEPT, clip=["CheckpointLoaderSimple", 1], text="gray hair", direction="add", scale=5.0,
                      start_percent=0.2, threshold=0.9, end_percent=1.0),
        "swept": node("SEGASweep", concepts=["gray", 0], latent_image=["EmptyLatentImage", 0], scales="-8, -3, 0, 3, 8"),
        "guided": node(GUIDANCE, model=["CheckpointLoaderSimple", 0], concepts=["swept", 0], momentum_scale=0.0,
                       momentum_beta=0.4, threshold_over="channel", base="auto"),
    }, PREVIEW),)),
    "sega-vectors": Picture(SEGA, 3, (
        ORIGINAL, Take("recorded: glasses"),
        Take("another prompt", {"KSampler: after": {"model": ["CheckpointLoaderSimple", 0], "positive": ["other prompt", 0]}}, recorded(3)),
        Take("the same with the vectors", {"KSampler: after": {"model": ["vectors", 0], "positive": ["other prompt", 0]}}, recorded(3)),
    )),
    # DDIM Invert
    "invert-method": Picture(INVERT, 1, (
        Take("your picture", shows=BEFORE), *takes("DDIMInvert", "method", {
            "fixed point": "it comes back", "ddim": "nearly", "random": "another person"}, AGAIN),
    )),
    "invert-steps": Picture(INVERT, 1, (
        Take("your picture", shows=BEFORE), plain_inversion(5, "too few: paler"), plain_inversion(10, "nearly"), plain_inversion(25, "right"),
    )),
    "invert-denoise": Picture(INVERT, 1, (
        Take("your picture", shows=BEFORE), climbed(0.2, "too low: nothing"), climbed(0.5, "weak"), climbed(0.8, "right"),
        climbed(1.0, "too high"),
    )),
    # DiffEdit
    "diffedit": Picture(DIFFEDIT, 5, (
        Take("your picture", shows=BEFORE), Take("heatmap", added=HEAT, shows="heat preview"),
        Take("mask", added=FOUND, shows=PLACE), Take("with glasses"),
    )),
    "mask-strength": Picture(
        DIFFEDIT, 5, takes(MASK, "strength", {0.02: "details", 0.5: "right", 1.0: "too high"}, "heat preview", HEAT)
    ),
    "diffedit-denoise": Picture(DIFFEDIT, 5, (
        Take("your picture", shows=BEFORE), *takes("DDIMInvert", "denoise", {0.2: "too low: half an edit", 0.8: "right", 1.0: "no more than that"}),
    )),
    "mask-threshold": Picture(DIFFEDIT, 5, masks("threshold", {0.1: "too low", 0.5: "right", 0.9: "too high"})),
    "mask-grow": Picture(DIFFEDIT, 5, masks("grow", {0: "enough here", 8: "a cell more", 48: "too much"})),
    "mask-blur": Picture(DIFFEDIT, 5, masks("blur", {0: "hard edge", 8: "right", 48: "too much: weak"})),
    "mask-maps": Picture(DIFFEDIT, 5, takes(MASK, "maps", {1: "patchy", 3: "nearly", 10: "right"}, "heat preview", HEAT)),
    "mask-clamp": Picture(DIFFEDIT, 5, masks("clamp", {1.0: "too low", 3.0: "right", 10.0: "too high"})),
    "diffedit-cfg": Picture(DIFFEDIT, 5, (
        Take("your picture", shows=BEFORE), *takes("DiffEditSampler", "cfg", {1.0: "too low", 5.0: "right", 30.0: "too high"}),
    )),
    "diffedit-mask": Picture(DIFFEDIT, 5, (
        Take("your picture", shows=BEFORE),
        Take("mask too small", {MASK: {"threshold": 0.9}}), Take("right"),
        Take("mask everywhere: other colours", {"DiffEditSampler": {"mask": ["everywhere", 0]}, "ImageCompositeMasked": {"mask": ["everywhere", 0]}}, LARGE_MASK),
    )),
    # Sliders
    "slider-strength": Picture(SLIDER, 1, (
        ORIGINAL, *takes(LOADER, "strength", {0.25: "too low", 1.5: "right", 4.0: "no more than that", 12.0: "too high"}),
    )),
    "slider-start": Picture(SLIDER, 2, (
        ORIGINAL, *takes(LOADER, "start_percent", {0.0: "too early: other backdrop", 0.2: "still", 0.4: "right here", 0.9: "too late: nothing"}),
    ), Take("", {LOADER: {"lora_name": "gray_hair.safetensors", "strength": 2.0}})),
    "slider-apply-to": Picture(SLIDER, 1, (
        ORIGINAL, *takes(LOADER, "apply_to", {"both": "strength 1.5", "positive": "strength 1.5: dirty"}),
    )),
    "slider-sweep": Picture("slider_sweep_strip", 1, (Take("", shows=PREVIEW),)),
}  # fmt: skip
