"""What a gallery shows: captions, and the page with all strips."""

from __future__ import annotations

from html import escape
from typing import Any

from ..demo.scenes import edits
from ..server.client import Prompt
from ..server.workflows import holder

STYLE = """
body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: #1e1e1e;
  background: #fafaf8; }
h1, h2 { line-height: 1.2; } h2 { margin: 3rem 0 0; } p { margin: .3rem 0 1rem; color: #555; }
figure { margin: 0 0 2rem; } img { display: block; max-width: 100%; height: auto; border: 1px solid #ddd; }
figcaption, li { color: #555; font-size: .9rem; }
"""


def texts(prompt: Prompt) -> dict[str, str]:
    """What a workflow's prompt nodes say, by their titles; negative and empty prompts say nothing about the picture."""
    found = {}
    for node in prompt.values():
        if node["class_type"] == "CLIPTextEncode":
            place, name = holder(prompt, node["inputs"], "text")
            found[node["_meta"]["title"]] = place[name]
    return {title: text for title, text in found.items() if text and not title.startswith("Negative")}


def caption(entry: dict[str, Any]) -> list[str]:
    """The lines under a strip."""
    shown = [f"picture: {entry['picture_of']}"] if "picture_of" in entry else []
    shown += [f"{title.removeprefix('Positive ').lower()}: {text}" for title, text in entry["texts"].items()]
    return [*shown, "   ·   ".join([*entry["edits"], f"seed {entry['seed']}"])]


def shown_edits(prompt: Prompt) -> list[str]:
    return edits(prompt, {})


def measured(entry: dict[str, Any]) -> str:
    """What is known about a strip beside its pictures."""
    found = [f"{entry['seconds']:.1f} s"]
    if "mask_share" in entry:
        found.append(f"the mask is {entry['mask_share']:.0%} of the picture")
        error = entry["background_error"]
        found.append("outside it every pixel is the same" if not error else f"outside it up to {error} of 255 differ")
    if "psnr" in entry:
        found.append(
            f"the picture again: {entry['psnr']:.1f} dB (the autoencoder alone: {entry['psnr_autoencoder']:.1f} dB)"
        )
    return ", ".join(found)


def page(report: dict[str, Any]) -> str:
    """The gallery as HTML, with links to the strips beside it."""
    about = report["checkpoint"]
    title = f"Semantic Steering on {about['file']}"
    parts = [
        "<!doctype html>", '<html lang="en">', '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">', f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>", f"<h1>{escape(title)}</h1>",
        f"<p>{escape(about['family'])}, {about['size']} × {about['size']} pixels. Made by <code>python dev.py gallery"
        "</code>: nothing is picked by hand. A strip's time is that of all its pictures but the one it edits; that of "
        "the first includes loading the model.</p>",
    ]  # fmt: skip
    for name, scene in report["scenes"].items():
        strips = [entry for entry in report["strips"] if entry["scene"] == name]
        if not strips:
            continue
        parts += [f"<h2>{escape(scene['title'])}</h2>", f"<p>Workflow: {escape(scene['workflow'])}</p>"]
        for entry in strips:
            words = escape("; ".join(caption(entry)), quote=True)
            parts.append(
                f'<figure><a href="{entry["file"]}"><img loading="lazy" src="{entry["file"]}" alt="{words}"></a>'
                f"<figcaption>Seed {entry['seed']}: {escape(measured(entry))}</figcaption></figure>"
            )
    missing = {**report["left_out"], **report["failed"]}
    if missing:
        parts += ["<h2>Not here</h2>", "<ul>"]
        parts += [f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in missing.items()]
        parts += ["</ul>"]
    return "\n".join([*parts, "</html>", ""])
