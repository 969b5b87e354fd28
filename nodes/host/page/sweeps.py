"""One setting with a value for each picture of a batch: the list as a user writes it, its captions, and the batch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

EXAMPLE = "-2, -1, 0, 1, 2"
MINUS = "\N{MINUS SIGN}"


def numbers(text: str, name: str, bound: float) -> tuple[float, ...]:
    """The numbers of a list such as '-2, -1, 0, 1, 2'; commas, semicolons and white space separate them.

    name: the input that holds the text. Raises ValueError for a text without numbers, for an entry that is no finite
    number, and for one outside -bound to bound.
    """
    entries = [entry for entry in re.split(r"[\s,;]+", text) if entry]
    if not entries:
        raise ValueError(f"{name} is empty; write a number for each picture, such as {EXAMPLE}")
    return tuple(_number(entry, name, bound) for entry in entries)


def _number(entry: str, name: str, bound: float) -> float:
    try:
        value = float(entry.replace(MINUS, "-"))
    except ValueError:
        raise ValueError(
            f"{name} holds {entry!r}, which is not a number; write numbers with commas between them, such as {EXAMPLE}"
        ) from None
    if not math.isfinite(value) or abs(value) > bound:
        raise ValueError(f"{name} holds {entry}; each must be a number from -{bound:g} to {bound:g}, such as {EXAMPLE}")
    return value


def captions(values: Iterable[float]) -> str:
    """A line for each value, signed: -2, 0, +1.5. With the hyphen: Pillow's own font has no minus sign."""
    return "\n".join(f"{value:+g}" if value else "0" for value in values)


def repeated(latent: dict, n: int) -> dict:
    """A LATENT of one picture (or one video) n times along the batch: samples [n, C, ..., h, w].

    All entries have one batch_index (the latent's own, or 0), so the host gives each of them the same noise. Raises
    ValueError for a batch of several, and for packed latents.
    """
    samples = latent["samples"]
    if samples.is_nested:
        raise ValueError(
            "latent_image is a packed latent (several parts, as audio with video), which cannot be repeated along a "
            "batch. Separate the parts and connect one of them"
        )
    if len(samples) != 1:
        raise ValueError(
            f"latent_image is a batch of {len(samples)}; a sweep starts from one picture. Set its batch_size to 1, or "
            "take one out of it with Latent From Batch"
        )
    index = latent.get("batch_index", [0])[0]
    batch = {**latent, "samples": samples.repeat(n, *[1] * (samples.ndim - 1)), "batch_index": [index] * n}
    mask = latent.get("noise_mask")
    if mask is not None and samples.ndim == 4:
        # The host repeats one mask over the batch. Of several it would give each entry another one.
        batch["noise_mask"] = mask.reshape(-1, 1, *mask.shape[-2:])[:1]
    return batch
