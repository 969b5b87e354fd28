"""The demo's concept sliders: their files, and the texts that Train Slider (Text) makes them from."""

from __future__ import annotations

from pathlib import Path

from .portraits.captions import ABSENT, PRESENT

FOLDER = Path(__file__).resolve().parent / "models" / "sliders"
NAMES = ("smile", "gray_hair", "glasses", "makeup")
FILES = {name: FOLDER / f"{name}.safetensors" for name in NAMES}
TARGET = "a portrait of a person"


def poles(name: str) -> tuple[str, str]:
    """(positive, negative) of an attribute."""
    if name == "male":
        return "a portrait of a man", "a portrait of a woman"
    return f"{TARGET} with {PRESENT[name][0]}", f"{TARGET} with {ABSENT[name][0]}"
