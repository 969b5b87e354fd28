"""Words in lines of a given width. Nothing but Pillow: the developers' strips read this file without ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def wrapped(text: str, font: Font, width: int) -> list[str]:
    """The text in lines of at most the width, broken between words; only a longer word is broken itself."""
    lines = [""]
    for part in (part for word in text.split() for part in _parts(word, font, width)):
        longer = f"{lines[-1]} {part}".lstrip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(part)
        else:
            lines[-1] = longer
    return lines


def _parts(word: str, font: Font, width: int) -> Iterator[str]:
    start = 0
    for end in range(2, len(word) + 1):
        if font.getlength(word[start:end]) > width:
            yield word[start : end - 1]
            start = end - 1
    yield word[start:]
