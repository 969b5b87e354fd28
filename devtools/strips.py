"""Labelled before/after strips."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from .host import load_file

# Those of the nodes' own strips.
wrapped = load_file("nodes/host/page/words.py").wrapped
fonts = load_file("nodes/host/page/fonts.py")

SIDE, MARGIN, LINE, TEXT = 384, 12, 22, 16
LARGE = 512  # pixels: from here on the text grows with the pictures
PAPER, INK, TINT = (250, 250, 248), (30, 30, 30), (240, 40, 90)


def strip(pictures: list[Image.Image], labels: list[str], lines: list[str], side: int = SIDE) -> Image.Image:
    """Pictures side by side, each with its label above and the text lines below; small ones are enlarged to `side`."""
    scaled = [_enlarged(picture, side) for picture in pictures]
    tallest = max(picture.height for picture in scaled)
    margin, spacing, text = (round(size * max(1.0, tallest / LARGE)) for size in (MARGIN, LINE, TEXT))
    width = sum(picture.width for picture in scaled) + margin * (len(scaled) + 1)
    file, drawn = fonts.drawable([*labels, *lines])
    font, labels, lines = fonts.sized(file, text), drawn[: len(labels)], drawn[len(labels) :]
    captions = [_wrapped(label, font, picture.width) for label, picture in zip(labels, scaled, strict=True)]
    wrapped = [part for line in lines for part in _wrapped(line, font, width - 2 * margin)]
    bar = spacing * max(map(len, captions)) if any(labels) else 0
    height = 2 * margin + bar + tallest + margin + spacing * len(wrapped)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    left, top = margin, margin + bar
    for picture, caption in zip(scaled, captions, strict=True):
        for i, line in enumerate(caption):
            draw.text((left, margin - 2 + i * spacing), line, INK, font)
        sheet.paste(picture, (left, top))
        left += picture.width + margin
    top += tallest + margin
    for i, line in enumerate(wrapped):
        draw.text((margin, top + i * spacing), line, INK, font)
    return sheet


def rows(pictures: list[Image.Image], labels: list[str], side: int, columns: int) -> Image.Image:
    """A strip that is broken into as few rows as `columns` allows, all of them as full."""
    number = -(-len(pictures) // columns)
    each = -(-len(pictures) // number)
    starts = range(0, len(pictures), each)
    strips = [strip(pictures[i : i + each], labels[i : i + each], [], side) for i in starts]
    sheet = Image.new("RGB", (strips[0].width, sum(row.height for row in strips)), PAPER)
    top = 0
    for row in strips:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _enlarged(picture: Image.Image, side: int) -> Image.Image:
    factor = max(1, side // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.LANCZOS)


def _wrapped(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> list[str]:
    return [line for paragraph in text.split("\n") for line in wrapped(paragraph.split(), font, width)]


def tinted(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """A picture with a mask over it in colour."""
    weight = mask.convert("L").point(lambda value: 0.6 * value)
    return Image.composite(Image.new("RGB", picture.size, TINT), picture, weight)


def thumbnail(pictures: Sequence[Image.Image], side: int = 256) -> Image.Image:
    """Before and after side by side, or a sweep's pictures without their sides, for a workflow's tile."""
    sheet = Image.new("RGB", (2 * side, side), PAPER)
    edges = [2 * side * i // len(pictures) for i in range(len(pictures) + 1)]
    for picture, left, right in zip(pictures, edges, edges[1:], strict=False):
        square = picture.resize((side, side), Image.Resampling.LANCZOS)
        margin = (side - (right - left)) // 2
        sheet.paste(square.crop((margin, 0, margin + right - left, side)), (left, 0))
    return sheet


def notice(picture: Image.Image, words: str, side: int = 256) -> Image.Image:
    """A workflow's tile where there is no result to show: the picture it starts from, and words beside it."""
    font = ImageFont.load_default(20)
    sheet = Image.new("RGB", (2 * side, side), PAPER)
    sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (0, 0))
    lines = _wrapped(words, font, side - 2 * MARGIN)
    text = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        text.text((side + MARGIN, side // 2 + (i - len(lines) / 2) * LINE * 1.2), line, INK, font)
    return sheet


def overview(columns: list[tuple[str, Image.Image, Image.Image]], side: int = 188) -> Image.Image:
    """A wide picture: a column for each edit, before above, after below, its words between them."""
    font = ImageFont.load_default(15)
    sheet = Image.new("RGB", (len(columns) * (side + MARGIN) + MARGIN, 2 * side + 4 * LINE + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (words, before, after) in enumerate(columns):
        left = MARGIN + i * (side + MARGIN)
        sheet.paste(before.resize((side, side), Image.Resampling.LANCZOS), (left, MARGIN))
        for j, line in enumerate(_wrapped(words, font, side)[:3]):
            draw.text((left, MARGIN + side + LINE // 2 + j * LINE), line, INK, font)
        sheet.paste(after.resize((side, side), Image.Resampling.LANCZOS), (left, MARGIN + side + 4 * LINE))
    return sheet
