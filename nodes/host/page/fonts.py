"""A font that has a caption's letters: Pillow's own where it has them, else one of this machine's. Nothing but Pillow:
the developers' strips read this file without ComfyUI."""

from __future__ import annotations

import functools
import logging
import unicodedata
from collections.abc import Iterable

from PIL import ImageFont

logger = logging.getLogger("semantic_steering")

# Files that Pillow finds in the fonts' folders of Linux, Windows and macOS, those with most scripts first.
FILES = (
    "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansCJK.ttc", "SourceHanSans.ttc",
    "WenQuanYiMicroHei.ttf", "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "NanumGothic.ttf",
    "msyh.ttc", "malgun.ttf", "YuGothM.ttc", "msgothic.ttc", "simsun.ttc", "PingFang.ttc", "AppleSDGothicNeo.ttc",
    "Hiragino Sans GB.ttc", "Arial Unicode.ttf", "ARIALUNI.TTF", "DejaVuSans.ttf", "NotoSans-Regular.ttf",
    "NotoSansArabic-Regular.ttf", "NotoNaskhArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "segoeui.ttf",
    "LiberationSans-Regular.ttf", "arial.ttf", "Arial.ttf", "Tahoma.ttf", "tahoma.ttf",
)  # fmt: skip
NO_LETTER = "\uffff"  # never one: a font draws its box for it
UNKNOWN = "?"
_told: set[str] = set()


def drawable(captions: Iterable[str]) -> tuple[str | None, list[str]]:
    """The file of a font that has all letters of the captions (None: Pillow's own) and the captions to draw with it.

    Letters that no font here has are question marks in them, never boxes; the log says so once for each letter.
    """
    captions = list(captions)
    letters = {letter for caption in captions for letter in caption if not letter.isspace() and letter.isprintable()}
    most, lacking = None, _lacking(None, letters)
    for file in FILES if lacking else ():
        if _font(file) is None:
            continue
        left = _lacking(file, letters)
        if len(left) < len(lacking):
            most, lacking = file, left
        if not lacking:
            break
    new = lacking - _told
    if new:
        _told.update(new)
        logger.warning(
            "captions: no font on this machine has %s, drawn as %s; install one that has them, such as Noto Sans CJK",
            " ".join(sorted(new)), UNKNOWN,
        )  # fmt: skip
    table = str.maketrans(dict.fromkeys(lacking, UNKNOWN))
    return most, [caption.translate(table) for caption in captions]


def sized(file: str | None, size: float) -> ImageFont.FreeTypeFont:
    """That font in a size, in pixels."""
    font = ImageFont.load_default(size) if file is None else ImageFont.truetype(file, size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's wheels bring FreeType
    return font


@functools.cache
def _font(file: str | None) -> ImageFont.FreeTypeFont | None:
    """None for a file that is not on this machine."""
    try:
        return sized(file, 20)
    except OSError:
        return None


def _lacking(file: str | None, letters: set[str]) -> set[str]:
    return {letter for letter in letters if not _has(file, letter)}


@functools.lru_cache(maxsize=4096)
def _has(file: str | None, letter: str) -> bool:
    """Whether a font draws a letter. From right to left Pillow writes and joins letters with Raqm alone."""
    from PIL import features  # when a caption needs it: ComfyUI does not import it

    if unicodedata.bidirectional(letter) in ("R", "AL") and not features.check("raqm"):
        return False
    font = _font(file)
    assert font is not None
    return drawn(font, letter) != drawn(font, NO_LETTER)


def drawn(font: ImageFont.FreeTypeFont, letter: str) -> bytes:
    """A letter's pixels."""
    return bytes(font.getmask(letter))  # pyright: ignore[reportArgumentType]  # a buffer, which its stub does not say
