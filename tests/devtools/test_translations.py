"""The translated node texts say what the English ones say, and a changed English text is noticed."""

from __future__ import annotations

import json

import pytest

from devtools.release.translations import LANGUAGES, definitions_file, mark_translated, messages_file, problems

ENGLISH = {
    "display_name": "SEGA Guidance",
    "description": "Steers a model.",
    "inputs": {
        "scale": {"name": "scale", "tooltip": "The paper uses -3 to 0.5."},
        "vae": {"name": "vae", "tooltip": "Its VAE.", "choices": {"auto": "auto"}},
    },
}
TRANSLATED = {  # by language: the same node, translated
    "ja": (
        "SEGAガイダンス",
        "モデルを誘導します。",
        "スケール",
        "論文では -3〜0.5 です。（scale）",
        "そのVAEです。",
        "自動 (auto)",
    ),
    "ko": (
        "SEGA 가이던스",
        "모델을 유도합니다.",
        "스케일",
        "논문에서는 -3~0.5입니다. (scale)",
        "그 VAE입니다.",
        "자동 (auto)",
    ),
    "zh": ("SEGA引导", "引导模型。", "强度", "论文使用 -3 到 0.5。（scale）", "它的 VAE。", "自动 (auto)"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_translation_is_in_step(language):
    assert problems(language) == []
    assert len(definitions_file(language).read_text(encoding="utf-8")) > 10_000


@pytest.fixture(params=LANGUAGES)
def pack(request, tmp_path):
    """A pack with one node in English and one other language, in step: its root, and that language."""
    title, description, name, tooltip, vae, auto = TRANSLATED[request.param]
    node = {
        "display_name": title,
        "description": description,
        "inputs": {
            "scale": {"name": name, "tooltip": tooltip},
            "vae": {"name": "vae", "tooltip": vae, "choices": {"auto": auto}},
        },
    }
    for language, texts in (("en", ENGLISH), (request.param, node)):
        file = definitions_file(language, tmp_path)
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"Node": texts}), encoding="utf-8")
    assert len(problems(request.param, tmp_path)) == 5  # nobody has said yet that the texts fit
    mark_translated(request.param, tmp_path)
    assert problems(request.param, tmp_path) == []
    return tmp_path, request.param


def edit(file, path, change):
    """Sets the text at a path such as inputs.scale.tooltip to what `change` makes of it; None removes it."""
    content = json.loads(file.read_text(encoding="utf-8"))
    *parts, last = path.split(".")
    at = content["Node"]
    for part in parts:
        at = at.setdefault(part, {})
    new = change(at.get(last, ""))
    at.pop(last, None)
    if new is not None:
        at[last] = new
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        ("description", lambda text: None, "is missing"),
        ("inputs.mask.tooltip", lambda text: "마스크", "not a text of the English file"),
        ("inputs.scale.tooltip", lambda text: "", "is empty"),
        ("inputs.scale.tooltip", lambda text: text.replace("-3", "3"), "has not the numbers"),
        ("inputs.scale.tooltip", lambda text: text.replace("0.5", "0.55"), "has not the numbers"),
        ("inputs.scale.tooltip", lambda text: "The paper uses -3 to 0.5. (scale)", "is left in English"),
        ("inputs.scale.tooltip", lambda text: f"too high it falls apart {text}", "is left in English"),
        ("inputs.scale.tooltip", lambda text: text[:-7], "does not end in the id"),
        ("inputs.scale.name", lambda text: "scale factor", "is left in English"),
        ("display_name", lambda text: "SEGA Guidance", "is left in English"),
        ("inputs.vae.choices.auto", lambda text: None, "is missing"),
        ("inputs.vae.choices.auto", lambda text: "auto", "is left in English"),
        ("inputs.vae.choices.auto", lambda text: text[:-7], "does not end in the id, or the choice"),
        ("description", lambda text: text + " {model}", "holds one of"),
    ],
)
def test_a_fault_of_the_translation_is_named(pack, path, change, said):
    root, language = pack
    edit(definitions_file(language, root), path, change)
    assert any(f"Node.{path}" in line and said in line for line in problems(language, root))
    mark_translated(language, root)  # saying that it fits does not hide it
    assert any(said in line for line in problems(language, root))


SAID = {
    "ja": "{total} 層中 {matched} 層が一致",
    "ko": "{total}개 층 중 {matched}개 일치",
    "zh": "匹配 {total} 层中的 {matched} 层",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text, ""),
        (lambda text: None, "is missing"),
        (lambda text: text.replace("{total}", "{all}"), "has not the values"),
        (lambda text: text.replace("{total}", "5"), "has not the numbers"),
        (lambda text: "matched {matched} of {total} layers", "is left in English"),
    ],
)
def test_a_fault_of_what_nodes_say_is_named(pack, change, said):
    root, language = pack
    new = change(SAID[language])
    content = {
        "en": {"matched": "matched {matched} of {total} layers"},
        language: {} if new is None else {"matched": new},
    }
    for name, texts in content.items():
        messages_file(name, root).write_text(json.dumps({"semanticSteering": texts}), encoding="utf-8")
    mark_translated(language, root)
    lines = problems(language, root)
    assert any(f"{language}: semanticSteering.matched {said}" in line for line in lines) if said else lines == []


def test_letters_of_another_language_are_named(pack):
    root, language = pack
    other = TRANSLATED["ko" if language != "ko" else "ja"][1]
    edit(definitions_file(language, root), "description", lambda text: text + other)
    (line,) = problems(language, root)
    assert "another language's letters" in line


def test_a_changed_english_text_is_named_until_its_translation_was_looked_at(pack):
    root, language = pack
    edit(definitions_file("en", root), "description", lambda text: "Steers a model, gently.")
    (line,) = problems(language, root)
    assert line.startswith(f"{language}: Node.description was changed")
    assert "gently" in line
    mark_translated(language, root)
    assert problems(language, root) == []
