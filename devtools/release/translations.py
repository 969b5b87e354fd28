"""Keeps the translated locales/<language> in step with the English one: nodeDefs.json, what the nodes are called and
described as, and main.json, what they say after a run.

People write the translations. translated/<language>.json beside this file holds a hash of the English sentence that
each was made from, so that a sentence that changes is reported until somebody has looked at its translation and said
so with `python -m devtools.release.locales --translated <language>`.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESERVED = "{}@|$"  # vue-i18n reads these as its own syntax
# By language: what every sentence holds, and letters of the other languages' scripts.
SCRIPTS = {"ja": ("[ぁ-ん]", "[가-힣]"), "ko": ("[가-힣]", "[ぁ-ヿ一-鿿]"), "zh": ("[一-鿿]", "[ぁ-ヿ가-힣]")}
LANGUAGES = tuple(SCRIPTS)
SAME_NAMES = {"cfg", "clip", "latent", "sigmas", "vae"}  # that ComfyUI's own translations leave in English too
ENGLISH = re.compile(r"(?:[A-Za-z]+[ ,]+){4}[A-Za-z]")  # a run of words; names of models and quoted prompts are shorter
PLACE = re.compile(r"\{\w+\}")  # of a value in a message
MESSAGE = "semanticSteering."
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def definitions_file(language: str, root: Path = ROOT) -> Path:
    return root / "locales" / language / "nodeDefs.json"


def messages_file(language: str, root: Path = ROOT) -> Path:
    return root / "locales" / language / "main.json"


def record_file(language: str, root: Path = ROOT) -> Path:
    return root / "devtools" / "release" / "translated" / f"{language}.json"


def texts(value: Any, path: str = "") -> dict[str, str]:
    """{"SEGAConcept.inputs.clip.tooltip": text, ...}"""
    if isinstance(value, str):
        return {path: value}
    return {
        key: text for name, part in value.items() for key, text in texts(part, f"{path}.{name}".lstrip(".")).items()
    }


def _nested(flat: dict[str, str]) -> dict[str, Any]:
    """The inverse of `texts`: a path is in the record once, not in each of its lines."""
    result: dict[str, Any] = {}
    for path, text in flat.items():
        *parts, last = path.split(".")
        at = result
        for part in parts:
            at = at.setdefault(part, {})
        at[last] = text
    return result


def reserved(text: str) -> bool:
    return bool(set(text) & set(RESERVED))


def problems(language: str, root: Path = ROOT) -> list[str]:
    """What somebody has to look at, a line for each; nothing when the translation is in step."""
    english, translated = _read("en", root), _read(language, root)
    found = [f"{path} is missing: {english[path]!r}" for path in english if path not in translated]
    found += [f"{path} is not a text of the English file" for path in translated if path not in english]
    for path in (path for path in english if path in translated):
        found += [f"{path} {fault}: {translated[path]!r}" for fault in _faults(path, english, translated, language)]
    done = _texts_of(record_file(language, root))
    for path, now in _sentences(english).items():
        if path in translated and done.get(path) != now:
            found.append(f"{path} was changed, look at its translation: {english[path]!r}")
    return [f"{language}: {line}" for line in found]


def mark_translated(language: str, root: Path = ROOT) -> None:
    """Records that every translation was made from, or looked at beside, the English text as it is now."""
    file = record_file(language, root)
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(name)}: {json.dumps(part)}" for name, part in _nested(_sentences(_read("en", root))).items()]
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _read(language: str, root: Path) -> dict[str, str]:
    """All texts of a language."""
    return _texts_of(definitions_file(language, root)) | _texts_of(messages_file(language, root))


def _texts_of(file: Path) -> dict[str, str]:
    return texts(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def _sentences(english: dict[str, str]) -> dict[str, str]:
    """A hash of each text but the names of inputs and outputs, which are ids."""
    return {
        path: hashlib.sha256(text.encode()).hexdigest()[:8]
        for path, text in english.items()
        if not path.endswith(".name")
    }


def _faults(path: str, english: dict[str, str], translated: dict[str, str], language: str) -> list[str]:
    source, text = english[path], translated[path]
    own, foreign = SCRIPTS[language]
    if path.startswith(MESSAGE):
        return _message_faults(source, text, language)
    if path.endswith(".name"):
        left = text.isascii() and text.lower() not in SAME_NAMES
    elif path.endswith(".display_name") or ".choices." in path:
        left = text.isascii()
    else:
        left = not re.search(own, text) or bool(ENGLISH.search(text))
    # Help pages and messages call an input by its id, and a choice by its value: who reads there finds it here.
    shown = source if ".choices." in path else english.get(path.removesuffix("tooltip") + "name", "")
    nameless = path.endswith(".tooltip") and translated.get(path.removesuffix("tooltip") + "name") != shown
    nameless = (nameless or ".choices." in path) and not re.search(rf"[(（]{re.escape(shown)}[)）]$", text)
    faults = {
        "is empty": not text.strip(),
        f"holds one of {RESERVED}": reserved(text),
        "is left in English": left,
        "holds another language's letters": bool(re.search(foreign, text)),
        f"has not the numbers of {source!r}": sorted(NUMBER.findall(text)) != sorted(NUMBER.findall(source)),
        "does not end in the id, or the choice, in brackets": nameless,
    }
    return [fault for fault, there in faults.items() if there]


def _message_faults(source: str, text: str, language: str) -> list[str]:
    own, foreign = SCRIPTS[language]
    words = PLACE.sub("", text)
    faults = {
        "is empty": not text,
        "is left in English": any(letter.isalpha() for letter in PLACE.sub("", source)) and not re.search(own, words),
        "holds another language's letters": bool(re.search(foreign, words)),
        f"has not the values of {source!r}": sorted(PLACE.findall(text)) != sorted(PLACE.findall(source)),
        f"has not the numbers of {source!r}": sorted(NUMBER.findall(words)) != sorted(NUMBER.findall(source)),
    }
    return [fault for fault, there in faults.items() if there]
