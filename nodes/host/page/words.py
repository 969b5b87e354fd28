"""Words in lines of a given width. Nothing but Pillow: the developers' strips read this file without ComfyUI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def wrapped(words: Iterable[str], font: Font, width: int) -> list[str]:
    """Words in lines of at most the width; a longer word has a line of its own."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def pieces(text: str, font: Font, width: int) -> Iterator[str]:
    """The words of a text, longer ones than the width in parts."""
    for word in text.split():
        start = 0
        for end in range(2, len(word) + 1):
            if font.getlength(word[start:end]) > width:
                yield word[start : end - 1]
                start = end - 1
        yield word[start:]
