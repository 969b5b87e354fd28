"""Captions in any script are letters of a font that has them, or question marks, never boxes."""

from __future__ import annotations

import logging
from pathlib import Path

import matplotlib
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw, ImageFont, features
from semantic_steering.nodes.host.page import fonts, strips
from semantic_steering.nodes.host.page.previews import activity_tiles

DEJAVU = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")  # no Chinese, all below
CAPTIONS = {"Cyrillic": "Жанна улыбается", "accents": "Łódź, façade, ğ", "Greek": "χαμόγελο", "Arabic": "ابتسامة"}


@pytest.fixture
def machine(monkeypatch):
    """A machine with the fonts of these files, on which nothing was told yet."""

    def has(*files):
        monkeypatch.setattr(fonts, "FILES", files)
        monkeypatch.setattr(fonts, "_told", set())

    return has


def box(file):
    return fonts.drawn(fonts.sized(file, 20), fonts.NO_LETTER)


@pytest.mark.parametrize("caption", CAPTIONS.values(), ids=CAPTIONS)
def test_a_script_that_pillows_font_lacks_is_drawn_with_one_that_has_it(machine, caption, caplog):
    if caption == CAPTIONS["Arabic"] and not features.check("raqm"):
        pytest.skip("this Pillow has no Raqm")
    machine("none.ttf", DEJAVU)
    file, (drawn,) = fonts.drawable([caption])
    assert (file, drawn) == (DEJAVU, caption)
    assert all(fonts.drawn(fonts.sized(file, 20), letter) != box(file) for letter in caption if letter.isalpha())
    assert not caplog.records
    # and that font it is drawn with
    sheet = strips.strip(torch.ones(1, 200, 400, 3), [caption])[0]
    bar = sheet[: len(sheet) - 200 - 4]  # without the picture and the margin below it
    found = Image.fromarray((bar * 255).round().byte().numpy())
    paper = Image.new("RGB", (600, 60), strips.PAPER)
    ImageDraw.Draw(paper).text((10, 10), caption, strips.INK, ImageFont.truetype(DEJAVU, 14))
    ink = [ImageChops.difference(each, Image.new("RGB", each.size, strips.PAPER)).getbbox() for each in (found, paper)]
    assert abs((ink[0][2] - ink[0][0]) - (ink[1][2] - ink[1][0])) <= 2


def test_english_keeps_pillows_own_font(machine):
    machine(DEJAVU)
    assert fonts.drawable(["glasses, 50 %", "-2, +3.5"]) == (None, ["glasses, 50 %", "-2, +3.5"])


def test_letters_without_a_font_are_question_marks_and_told_once(machine, caplog):
    machine(DEJAVU)
    with caplog.at_level(logging.WARNING, "semantic_steering"):
        file, drawn = fonts.drawable(["眼镜 glasses", "Жанна"])
        fonts.drawable(["眼镜"])
    assert (file, drawn) == (DEJAVU, ["?? glasses", "Жанна"])
    (record,) = caplog.records
    assert "no font on this machine has 眼 镜, drawn as ?" in record.getMessage()


def test_a_machine_without_fonts(machine):
    machine()
    assert fonts.drawable(["Жанна 1"]) == (None, ["????? 1"])


def test_the_tiles_of_concepts_have_their_own_names(machine):
    machine(DEJAVU)
    pictures, maps = torch.rand(1, 8, 8, 3), torch.rand(1, 8, 8)
    own, other, english = (activity_tiles(pictures, maps, [name]) for name in ("улыбка", "борода", "concept 1"))
    assert not torch.equal(own, other)
    assert not torch.equal(own, english)


@pytest.mark.parametrize(
    "letter", [chr(code) for code in (0x41, 0xE9, 0x416, 0x5D0, 0x639, 0x4E2D, 0x3042, 0xAC00, 0x1F600)]
)
def test_no_box_is_ever_drawn(machine, letter):
    machine(DEJAVU)
    file, (drawn,) = fonts.drawable([letter])
    assert fonts.drawn(fonts.sized(file, 20), drawn) != box(file)
