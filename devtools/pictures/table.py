"""Which pictures `dev.py pictures` makes.

The captions say what is seen on the demo checkpoint, so look at a picture again after changing its takes.
"""

from __future__ import annotations

from typing import Any

from ..demo.scenes import SIZE
from .takes import (
    AGAIN,
    BEFORE,
    CHECKPOINT,
    CONCEPT,
    DOCS,
    EVERYWHERE,
    EYES,
    FOUND,
    GUIDANCE,
    HEAT,
    HEATED,
    MASK,
    PLACE,
    SAVED,
    Changes,
    Picture,
    Take,
    activity,
    diffedit_of_generated,
    directed,
    inverted_plainly,
    inverted_to,
    of_four,
    recorded,
    sega_sweep,
    trained_by_pairs,
    trained_by_text,
    values,
)

LOADER, INVERT = "SliderLoRALoader", "DDIMInvert"
WITHOUT, YOURS = Take("without", shows=BEFORE), Take("your picture", shows=BEFORE)
WOMAN = "a portrait of a woman with straight hair and no hat"
PASTED_EVERYWHERE: Changes = {
    "DiffEditSampler": {"mask": ["everywhere", 0]},
    "ImageCompositeMasked": {"mask": ["everywhere", 0]},
}
BANGS = recorded(3, "a portrait of a woman with bangs and no hat")
Captions = dict[Any, str]


def as_the_paper(**concept: Any) -> Changes:
    """The concept of the file by itself, as the nodes' defaults have it; concept: how it differs from them."""
    return {CONCEPT: {"prompt": "", **concept}, GUIDANCE: {"threshold_over": "channel"}}


def sega(seed: int, name: str, captions: Captions, kind: str = CONCEPT, **concept: Any) -> Picture:
    """A setting of SEGA; concept: how the concept differs from the nodes' defaults."""
    return Picture("sega_one_concept", seed, (WITHOUT, *values(kind, name, captions)), as_the_paper(**concept))


def slider(seed: int, name: str, captions: Captions, **loader: Any) -> Picture:
    """A setting of Slider LoRA Loader; loader: what else differs from the file's."""
    return Picture("slider_basic", seed, (WITHOUT, *values(LOADER, name, captions)), {LOADER: loader})


def diffedit(kind: str, name: str, captions: Captions) -> Picture:
    """A setting by what DiffEdit makes of it."""
    return Picture("diffedit_replace", 5, (YOURS, *values(kind, name, captions)))


def mask(name: str, captions: Captions, shows: str = PLACE) -> Picture:
    """A setting of DiffEdit Mask by the mask or the heat map."""
    added = FOUND if shows == PLACE else HEATED
    return Picture("diffedit_replace", 5, values(MASK, name, captions, shows, added))


def with_bangs(label: str, model: str) -> Take:
    """Another prompt of the same seed, through that model."""
    return Take(label, {"KSampler: after": {"model": [model, 0], "positive": ["other prompt", 0]}}, BANGS)


SEGA_PICTURES = {
    "sega-concepts": Picture(
        "sega_four_concepts",
        2,
        (
            WITHOUT,
            Take("+ glasses", of_four("glasses")),
            Take("+ glasses\n+ smile", of_four("glasses", "smile")),
            Take("+ glasses, smile\n+ gray hair", of_four("glasses", "smile", "gray hair")),
            Take("+ these three\n- beard"),
        ),
    ),
    "sega-scale": sega(
        3, "scale", {0.5: "too low: only other eyes", 1.0: "a hint", 5.0: "right", 20.0: "too high: another person"}
    ),
    "sega-sweep": Picture("slider_sweep_strip", 3, (sega_sweep("gray hair", "-8, -3, 0, 3, 8"),)),
    "sega-remove": Picture(
        "sega_one_concept",
        2,
        (WITHOUT, *values(CONCEPT, "scale", {2.0: "too low", 8.0: "right", 20.0: "too high"})),
        {
            "Positive prompt": {"text": "a portrait of a man with a beard and no hat"},
            **as_the_paper(text="beard", direction="remove", start_percent=0.1, threshold=0.8),
        },
    ),
    "sega-start": sega(
        2,
        "start_percent",
        {0.0: "too early: other colours", 0.2: "still others", 0.4: "right here", 0.8: "too late: nothing"},
        text="man",
    ),
    "sega-end": sega(2, "end_percent", {0.3: "too low: eyes only", 0.6: "enough here", 1.0: "right"}),
    "sega-threshold-low": sega(
        2, "threshold", {0.0: "too low: shirt and backdrop", 0.9: "less", 0.99: "right here"}, scale=10.0
    ),
    "sega-threshold-high": sega(4, "threshold", {0.9: "right", 0.999: "too high: one lens"}),
    "sega-mask": Picture(
        "sega_one_concept",
        4,
        (
            WITHOUT,
            Take("no mask: a hat comes with it"),
            Take("mask over the eyes", {CONCEPT: {"mask": ["eyes", 0]}}, EYES),
        ),
        as_the_paper(scale=10.0),
    ),
    "sega-momentum": sega(3, "momentum_scale", {0.0: "the default", 0.5: "the same here", 1.0: "too high"}, GUIDANCE),
    "sega-refresh": sega(3, "refresh", {1: "each step", 2: "the same", 10: "heavier frames"}, GUIDANCE),
    "sega-activity": Picture(
        "sega_one_concept",
        3,
        (WITHOUT, Take("glasses"), Take("activity", added=activity(3), shows="activity")),
        as_the_paper(),
    ),
    "sega-vectors": Picture(
        "sega_one_concept",
        3,
        (
            WITHOUT,
            Take("recorded: glasses"),
            with_bangs("another prompt", CHECKPOINT),
            with_bangs("the same with the vectors", "vectors"),
        ),
        as_the_paper(),
    ),
}

INVERSION_PICTURES = {
    "invert-method": Picture(
        "ddim_invert_reconstruct",
        1,
        (
            YOURS,
            *values(
                INVERT,
                "method",
                {"fixed point": "it comes back", "ddim": "nearly", "random": "another person"},
                AGAIN,
            ),
        ),
    ),
    "invert-steps": Picture(
        "ddim_invert_reconstruct",
        1,
        (
            YOURS,
            inverted_plainly(5, "too few: paler"),
            inverted_plainly(10, "nearly"),
            inverted_plainly(25, "right"),
        ),
    ),
    "invert-denoise": Picture(
        "ddim_invert_reconstruct",
        1,
        (
            YOURS,
            inverted_to(0.2, "too low: nothing"),
            inverted_to(0.5, "still nothing"),
            inverted_to(0.8, "right"),
            inverted_to(1.0, "too high: shirt, hair"),
        ),
    ),
}

DIFFEDIT_PICTURES = {
    "diffedit": Picture(
        "diffedit_replace",
        5,
        (
            YOURS,
            Take("heatmap", added=HEATED, shows=HEAT),
            Take("mask", added=FOUND, shows=PLACE),
            Take("with glasses"),
        ),
    ),
    "diffedit-denoise": diffedit(
        INVERT, "denoise", {0.2: "too low: half an edit", 0.8: "right", 1.0: "no more than that"}
    ),
    "diffedit-cfg": diffedit("DiffEditSampler", "cfg", {1.0: "too low", 5.0: "right", 30.0: "too high"}),
    "diffedit-mask": Picture(
        "diffedit_replace",
        5,
        (
            YOURS,
            Take("mask too small", {MASK: {"threshold": 0.9}}),
            Take("right"),
            Take("mask everywhere: other colours", PASTED_EVERYWHERE, EVERYWHERE),
        ),
    ),
    "mask-threshold": mask("threshold", {0.1: "too low", 0.5: "right", 0.9: "too high"}),
    "mask-strength": mask("strength", {0.02: "too low: crumbs", 0.5: "right", 1.0: "too high: smeared"}, HEAT),
    "mask-clamp": mask("clamp", {1.0: "too low", 3.0: "right", 10.0: "too high"}),
    "mask-maps": mask("maps", {1: "a little noisy", 3: "nearly", 10: "right"}, HEAT),
    "mask-grow": mask("grow", {0: "enough here", 8: "a cell more", 48: "too much"}),
    "mask-blur": mask("blur", {0: "hard edge", 8: "right", 48: "too much: weak"}),
}

SLIDER_PICTURES = {
    "slider-strength": slider(
        1, "strength", {0.25: "too low", 1.0: "right", 2.5: "no more than that", 8.0: "too high"}
    ),
    "slider-start": slider(
        2,
        "start_percent",
        {0.0: "too early: other skin", 0.2: "right", 0.4: "late: half of it", 0.9: "too late: nothing"},
        lora_name="gray_hair.safetensors",
        strength=1.0,
    ),
    "slider-apply-to": slider(1, "apply_to", {"both": "strength 1.5", "positive": "strength 1.5: dirty"}),
    "slider-sweep": Picture("slider_sweep_strip", 1, (Take("", shows=SAVED),)),
}

HAIR = [f"a portrait of a woman with {hair}, straight hair and no hat" for hair in ("coloured hair", "gray hair")]


def gray(label: str, strength: float, *texts: str) -> Take:
    """From coloured hair towards gray hair."""
    return directed(label, strength, HAIR[0], *(texts or (HAIR[1], HAIR[0])))


OLD = "an old portrait of a woman with gray hair, straight hair and no hat"
TEXT_PICTURES = {
    "text-direction": Picture(
        "slider_basic",
        3,
        (
            gray("the prompt", 0.0),
            gray("strength 1", 1.0),
            gray("2: a smile comes along", 2.0),
            gray('1, "an old portrait": other clothes too', 1.0, OLD, HAIR[0]),
        ),
        columns=2,
    ),
}
SMILE = ("with a smile", "with a serious look")
GLASSES = ("a portrait of a woman with glasses and no hat", "a portrait of a woman with no glasses and no hat")
TRAINING_PICTURES = {
    "train-text": Picture(
        "slider_basic",
        1,
        (
            trained_by_text("3 steps: too few", *SMILE, 3),
            trained_by_text("150 steps: a smile; below 0, where there was none, more goes with it", *SMILE, 150),
            trained_by_text(
                "poles that differ in two things: glasses come along", "with a smile and glasses",
                "with a serious look and no glasses", 150,
            ),
        ),
        columns=1,
    ),
    "train-text-rate": Picture(
        "slider_basic",
        1,
        (trained_by_text("learning_rate 0.05: it falls apart", *SMILE, 150, learning_rate=0.05),),
        columns=1,
    ),
    "train-images": Picture(
        "slider_basic",
        1,
        (
            trained_by_pairs("8 pairs, 20 steps: too few", 8, 20, *GLASSES),
            trained_by_pairs("200 steps: glasses", 8, 200, *GLASSES),
        ),
        columns=1,
    ),
    "train-dreambooth": Picture(
        "dreambooth_train",
        24,
        (
            Take("50 steps: too few", {"DreamBoothTrain": {"steps": 50}}, shows=SAVED),
            Take('500 steps: "a zorp woman", learnt from four pictures', shows=SAVED),
        ),
        columns=1,
    ),
}  # fmt: skip

OVERVIEW = Picture(
    "sega_one_concept",
    2,
    (
        Take("the picture", shows=BEFORE),
        Take("SEGA: glasses"),
        Take(
            "slider: make-up",
            {LOADER: {"lora_name": "makeup.safetensors", "strength": 1.0}, "Positive prompt": {"text": WOMAN}},
            workflow="slider_basic",
        ),
        Take(
            "DiffEdit: a smile",
            added=diffedit_of_generated("a portrait of a woman with no smile", "a portrait of a woman with a smile"),
            shows="diffedit",
        ),
    ),
    folder=DOCS,
    side=2 * SIZE,
    columns=4,
)

PICTURES = {
    "overview": OVERVIEW, **SEGA_PICTURES, **INVERSION_PICTURES, **DIFFEDIT_PICTURES, **SLIDER_PICTURES,
    **TEXT_PICTURES, **TRAINING_PICTURES,
}  # fmt: skip
