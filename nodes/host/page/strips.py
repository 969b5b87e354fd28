"""Pictures side by side with their captions."""

from __future__ import annotations

import comfy.utils
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .fonts import drawable, sized
from .words import pieces, wrapped

PAPER, INK = (250, 250, 248), (30, 30, 30)
# Captions have the usual size (a share of the picture's height) and shrink, all alike, until each fits in so many lines
# of its picture's width. Below the readable size (in pixels) they take more lines instead.
SHARE, USUAL, READABLE, LINES = 1 / 16, 14, 10, 2


def as_large_as(images: Tensor, others: Tensor) -> Tensor:
    """Other pictures [N, h, w, 3] at the size of the images, cut at the edges where they are of another shape, as the
    host's VAE Encode cuts a picture."""
    height, width = images.shape[1:3]
    if others.shape[1:3] == (height, width):
        return others
    return comfy.utils.common_upscale(others.movedim(-1, 1), width, height, "lanczos", "center").movedim(1, -1)


def strip(images: Tensor, captions: list[str]) -> Tensor:
    """Pictures [N, H, W, C] with a caption above each, left to right on light paper: [1, H', W', 3]."""
    count, height, width = images.shape[:3]
    gap = max(4, height // 64)
    lefts = [gap + i * (width + gap) for i in range(count)]
    bar = _bar(captions, lefts, width, height, gap)
    paper = images.new_tensor(PAPER) / 255
    sheet = paper.expand(len(bar) + height + gap, (width + gap) * count + gap, 3).clone()
    sheet[: len(bar)] = torch.from_numpy(bar).to(images) / 255
    for picture, left in zip(images, lefts, strict=True):
        sheet[len(bar) : len(bar) + height, left : left + width] = picture[..., :3]
    return sheet[None]


def _bar(captions: list[str], lefts: list[int], width: int, height: int, gap: int) -> np.ndarray:
    """The captions, each centred over its picture, uint8 [h, W', 3]."""
    font, texts = _fitted(captions, width, height)
    ascent, descent = font.getmetrics()
    line = ascent + descent
    rows = max(len(lines) for lines in texts)
    bar = Image.new("RGB", (lefts[-1] + width + gap, rows * line + 2 * gap), PAPER)
    draw = ImageDraw.Draw(bar)
    for lines, left in zip(texts, lefts, strict=True):
        top = gap + (rows - len(lines)) * line  # the last lines stand next to the pictures
        for i, text in enumerate(lines):
            draw.text((left + width / 2, top + i * line), text, INK, font, anchor="ma")
    return np.array(bar)


def _fitted(captions: list[str], width: int, height: int) -> tuple[ImageFont.FreeTypeFont, list[list[str]]]:
    """The font in which the captions fit the width, and the lines of each caption in it."""
    size = max(USUAL, round(SHARE * height))
    file, captions = drawable(captions)
    while True:
        font = sized(file, size)
        lines = [wrapped(pieces(caption, font, width), font, width) for caption in captions]
        whole_words = all(font.getlength(word) <= width for caption in captions for word in caption.split())
        if size <= READABLE or (whole_words and all(len(each) <= LINES for each in lines)):
            return font, lines
        size -= 1
