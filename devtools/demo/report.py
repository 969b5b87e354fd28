"""What the demo's pictures were to show, what they show in the judge's eyes, and the report's lines about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from demo.judge import Judge
from demo.portraits.attributes import ATTRIBUTES, INDEX, STYLES, judgeable
from demo.portraits.captions import ADJECTIVES, PEOPLE, PRESENT, STYLE_WORDS

from ..figures.sliders import rank_correlations
from ..figures.subject import marked
from ..server.client import Prompt
from .scenes import Dial, Scene, concepts, dials, edits


def _plain(text: str) -> str:
    return text.strip().lower().removeprefix("an ").removeprefix("a ")


def meaning(text: str) -> tuple[str, str]:
    """What a concept's words stand for in the portraits domain: ("attribute", its key) or ("style", its name)."""
    wanted = _plain(text)
    for name in ATTRIBUTES:
        words = PEOPLE[True] if name == "male" else (*PRESENT[name], *ADJECTIVES.get(name, ()))
        if wanted in map(_plain, words):
            return "attribute", name
    for name in STYLES:
        if wanted in (_plain(words.removesuffix(" of")) for words in STYLE_WORDS[name]):
            return "style", name
    raise ValueError(f"the portraits domain has no words for the concept {text!r}; see demo/portraits/captions.py")


def _as_tensor(picture: Image.Image) -> Tensor:
    """[1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255).permute(2, 0, 1)[None]


def judged(judge: Judge, picture: Image.Image, style: str) -> dict[str, float]:
    """The judge's probabilities of a picture; attributes that cannot be judged are left out."""
    probabilities = judge.probabilities(_as_tensor(picture))
    known = judgeable(probabilities > 0.5, torch.tensor([STYLES.index(style)]))
    rows = zip(ATTRIBUTES, probabilities[0].tolist(), known[0].tolist(), strict=True)
    return {name: round(probability, 4) for name, probability, possible in rows if possible}


def as_asked(asked: dict[str, str], probabilities: dict[str, float]) -> bool:
    """Whether a picture shows what one entry of `asked` wants; False where it cannot be judged."""
    probability = probabilities.get(asked["attribute"])
    return probability is not None and (probability > 0.5) == (asked["direction"] == "add")


def has_mark(picture: Image.Image) -> bool:
    """Whether a picture shows the subject's mark."""
    return bool(marked(_as_tensor(picture))[0])


def judged_sweep(judge: Judge, dial: Dial, pictures: list[Image.Image]) -> dict[str, Any]:
    """The attribute's logit in each picture of a sweep, and Spearman's correlation of the logits with the strengths."""
    logits = judge.logits(torch.cat([_as_tensor(picture) for picture in pictures]))[:, [INDEX[dial.attribute]]]
    return {
        "attribute": dial.attribute, "strengths": dial.strengths,
        "logits": [round(value, 3) for value in logits[:, 0].tolist()],
        "spearman": round(float(rank_correlations(dial.strengths, logits)), 3),
    }  # fmt: skip


def asks(scene: Scene, prompt: Prompt) -> tuple[list[dict[str, str]], str, str]:
    """What a scene wants of its pictures: the attributes, the style after the edit, and the words for both."""
    used, turned = concepts(prompt), dials(prompt)
    means = [meaning(concept["text"]) for concept in used]
    wanted = [(name, "add" if there else "remove") for name, there in scene.asked.items()]
    wanted += [
        (name, concept["direction"]) for concept, (kind, name) in zip(used, means, strict=True) if kind == "attribute"
    ]
    wanted += [(dial.attribute, "add" if dial.adds else "remove") for dial in turned]
    asked = [{"attribute": name, "direction": direction} for name, direction in dict.fromkeys(wanted)]
    style = next((name for kind, name in means if kind == "style"), "photo")
    return asked, style, ", ".join(filter(None, (scene.words, *edits(prompt))))


def changes(entry: dict[str, Any]) -> str:
    """What became of each attribute that an entry of the report asks for: 'glasses 0.02 > 0.99'."""
    return ", ".join(
        f"{a['attribute']} {_shown(a, entry['before'])} > {_shown(a, entry['after'])}" for a in entry["asked"]
    )


def _shown(asked: dict[str, str], probabilities: dict[str, float]) -> str:
    value = probabilities.get(asked["attribute"])
    return "hidden" if value is None else f"{value:.2f}"


def summary(name: str, entries: list[dict[str, Any]]) -> str:
    """One line about a workflow: how many of the edits that had something to change did change it."""
    mean = sum(entry["seconds"] for entry in entries) / len(entries)
    text = f"{name}: {len(entries)} pictures, {mean:.1f} s each"
    for asked in entries[0]["asked"]:
        rows = [e for e in entries if asked["attribute"] in e["before"] and asked["attribute"] not in e["neutral"]]
        reached = sum(as_asked(asked, entry["after"]) for entry in rows)
        text += f"; {asked['direction']} {asked['attribute']} {reached} of {len(rows)}"
    if "background_exact" in entries[0]:
        text += f"; background exact {sum(entry['background_exact'] for entry in entries)} of {len(entries)}"
    if "sweep" in entries[0]:
        found = [entry["sweep"]["spearman"] for entry in entries]
        text += f"; Spearman {sum(found) / len(found):.2f}, lowest {min(found):.2f}"
    if "marked" in entries[0]:
        text += f"; mark {sum(entry['marked'] for entry in entries)} of {len(entries)}"
    if "psnr" in entries[0]:
        again, alone = (sum(entry[key] for entry in entries) / len(entries) for key in ("psnr", "psnr_autoencoder"))
        text += f"; reconstruction {again:.1f} dB (the autoencoder alone: {alone:.1f} dB)"
    return text
