"""What a workflow that has run gives: the pictures for a strip, and what can be measured in them without a judge."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from PIL import Image

from ..strips import tinted
from .client import Client, Prompt

# Previews that are added to a workflow, by id.
BEFORE, AFTER, MASK, AUTOENCODER, SWEPT = ADDED = (
    "added before", "added after", "added mask", "added autoencoder", "added sweep",
)  # fmt: skip


def fetch(client: Client, outputs: dict[str, Any]) -> list[Image.Image]:
    """The pictures of the strips at a workflow's end: the one before the edit, that they have in common, then each
    one's other. Of a sweep all its pictures."""
    after = sorted(node for node in outputs if node.startswith(AFTER))
    shown = [SWEPT] if SWEPT in outputs else [BEFORE, *after]
    return [view(client, image) for node in shown for image in outputs[node]["images"]]


def cells(sheet: Image.Image, side: int) -> list[Image.Image]:
    """The pictures, `side` pixels wide and high, of a strip as a training shows it."""
    gap = max(4, side // 64)
    count, top = (sheet.width - gap) // (side + gap), sheet.height - gap - side
    return [sheet.crop((left, top, left + side, top + side)) for left in (gap + i * (side + gap) for i in range(count))]


def view(client: Client, image: dict[str, str]) -> Image.Image:
    """The picture behind an entry of an `images` output."""
    return Image.open(io.BytesIO(client.view(image))).convert("RGB")


def own_preview(client: Client, prompt: Prompt, outputs: dict[str, Any], kind: str) -> Image.Image | None:
    """What the workflow's own nodes of a kind preview, if they do."""
    own = [node for node, entry in prompt.items() if entry["class_type"] == kind and not node.startswith(ADDED)]
    previews = [outputs[node]["images"] for node in own if "images" in outputs.get(node, {})]
    return view(client, previews[0][0]) if previews else None


def with_previews(prompt: Prompt) -> Prompt:
    """The prompt and, for the report, previews of what the workflow does not show: where the mask of its last paste is
    above 0; where it has two strips, what the autoencoder alone makes of the picture; the pictures that they are made
    of."""
    added: Prompt = {}
    kinds = {node["class_type"]: (node_id, node["inputs"]) for node_id, node in prompt.items()}

    def add(node_id: str, kind: str, **inputs: Any) -> list[Any]:
        added[node_id] = {"class_type": kind, "inputs": inputs, "_meta": {"title": node_id}}
        return [node_id, 0]

    if "ImageCompositeMasked" in kinds:
        inside = add(f"{MASK} edge", "ThresholdMask", mask=kinds["ImageCompositeMasked"][1]["mask"], value=0.0)
        add(MASK, "PreviewImage", images=add(f"{MASK} picture", "MaskToImage", mask=inside))
    strips = [node["inputs"] for node in prompt.values() if node["class_type"] == "LabelledStrip"]
    for number, inputs in enumerate(strips, 1):
        add(f"{AFTER} {number}" if "before" in inputs else SWEPT, "PreviewImage", images=inputs["images"])
        if "before" in inputs:
            add(BEFORE, "PreviewImage", images=inputs["before"])
    if not strips and "SaveImage" in kinds:  # a training's own strip is all there is
        save = kinds["SaveImage"][1]
        add(SWEPT, "PreviewImage", images=save["images"])
    if len(strips) > 1:
        encoder, inputs = kinds["VAEEncode"]
        decoded = add(f"{AUTOENCODER} picture", "VAEDecode", samples=[encoder, 0], vae=inputs["vae"])
        add(AUTOENCODER, "PreviewImage", images=decoded)
    return {**prompt, **added}


def measure(
    client: Client, pictures: list[Image.Image], prompt: Prompt, outputs: dict[str, Any], entry: dict[str, Any],
    unpainted: Image.Image | None = None,
) -> list[tuple[str, Image.Image]]:  # fmt: skip
    """Add to a report's entry what can be measured in the pictures of `fetch`; returns what their strip shows, with
    labels.

    unpainted: what the first picture was before strokes were painted over it.
    """
    if MASK in outputs:
        mask = view(client, outputs[MASK]["images"][0])
        error = background_error(pictures[0], pictures[-1], mask)
        share = float((np.asarray(mask.convert("L")) > 0).mean())
        entry |= {"background_exact": error == 0, "background_error": error, "mask_share": round(share, 4)}
        preview = own_preview(client, prompt, outputs, "DiffEditMask") or tinted(pictures[0], mask)
        return [("before", pictures[0]), ("mask", preview), ("after", pictures[-1])]
    if AUTOENCODER in outputs:
        entry["psnr"] = round(psnr(pictures[0], pictures[1]), 2)
        entry["psnr_autoencoder"] = round(psnr(pictures[0], view(client, outputs[AUTOENCODER]["images"][0])), 2)
        return list(zip(("picture", "the picture again", "with the prompt"), pictures, strict=True))
    if unpainted is not None:
        return [("before", unpainted), ("with strokes", pictures[0]), ("after", pictures[-1])]
    return [("before", pictures[0]), ("after", pictures[-1])]


def _pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), dtype=np.float64)


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Peak signal-to-noise ratio of two pictures in dB."""
    error = float(np.mean((_pixels(one) - _pixels(other)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def background_error(before: Image.Image, after: Image.Image, mask: Image.Image) -> int:
    """The largest difference of a pixel where the mask is 0, from 0 (all the same) to 255."""
    outside = np.asarray(mask.convert("L")) == 0
    return int(np.abs(_pixels(before) - _pixels(after))[outside].max(initial=0))
