"""`dev.py test --compat [--check] [pytest arguments]`: docs/compatibility.md from the outcomes of tests.

A test fills a cell with the marker compat(row, feature, table, made); those of a parameter, a class and a function are
put together. A cell is "yes" if all of its tests pass, "not run" if one was skipped, and "no" if one has found a
documented refusal or limit and said so: record_property("no", reason). No page is written where a test fails, or where
the arguments leave tests out.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from .. import paths
from ..host import ROOT
from . import carried, hosts

PAGE = ROOT / "docs" / "compatibility.md"
SELECTION = ("-m", "compat", "--full-size")
# By the marker's name of a table: its title, and what its rows are.
TABLES = {
    "families": ("Families", "family"),
    "combinations": ("Combinations", "together with"),
    "beside other packs": ("Beside other packs", "pack"),
    "quantised models": ("Quantised models", "format"),
    "slider formats": ("Slider formats", "format"),
}
INTRODUCTION = """# Compatibility

What has been run, where. "Not run" is not a promise that it fails, and an empty cell is one that no test fills.

Written by `python dev.py test --compat`: every "yes" is a test that passed, every "no" a refusal or a limit that a test
has seen. {date}, ComfyUI {comfyui}, torch {torch}, Python {python}, on a CPU."""
TEXTS = {
    "families": """Networks of ComfyUI's own classes with **random weights**, because no published weights can be
fetched where the tests run. "Cut down" ones have as few layers, and as narrow, as the stock loader still recognises. A
row says that the nodes understand the family; how edits look, and which settings suit it, only real weights can tell.
In every cell: it runs, a neutral setting (where there is one) gives the bits of not using the node, and another one
changes the latent by more than 1 %. Guidance, reference latents and pictures that the positive carries reach the
concepts. An inversion comes back at 70 dB or more. A training's gradient is its loss's own, by differences, to 2 %, and
its slider acts in the stock loader and in ours alike. Tests: `tests/nodes/together/test_families*.py`.""",
    "combinations": """The nodes together with other parts of ComfyUI.""",
    "beside other packs": """Small models with random weights, and what each node must give worked out by hand. Packs
are in the tests as stand-ins that do to ComfyUI what their source does, at the version in the row: no code of theirs.
Beside the packs themselves was run: AnimateDiff-Evolved with a small motion model of random weights (InstructPix2Pix
with contexts alone; of DiffEdit Sampler only that it runs); all seven nodes of Skimmed CFG, before and after SEGA
Guidance (γ off by 1.9e-6 at most); three methods of TiledDiffusion
with SEGA, sliders of the positive and sweeps (2.0e-6); KJNodes' Scheduled CFG (7e-7); ComfyUI-Distributed on two and
three servers ([which graphs](distributed.md)). TeaCache does not run on ComfyUI 0.30.0. Refused beside
AnimateDiff-Evolved, before sampling: PIA and FancyVideo motion models with SEGA or DiffEdit Mask, iteration options
and injected pictures with DDIM Invert, DiffEdit Mask and DiffEdit Sampler. Inversion, mask and decode leave a step
cache out of their runs. ComfyUI-GGUF is under quantised models. Tests:
`tests/nodes/together/test_other_packs.py`, `test_evolved_sampling.py`.""",
    "quantised models": """A small Flux model with random weights, packed by ComfyUI's own quantised layers, by a
stand-in for ComfyUI-GGUF's layers and patcher, and by layers that have no weight. Sliders over a whole run are
to the bit what ComfyUI's own loader makes of them, in a window the same in a part of the run; sweeps, SEGA, masks and
inversions are those of the plain model with the same weights, within what int8's rounded activations change. Layers
without a weight: the plain model's result in every case. "Offloaded": little memory, most layers patched at each use.
Training: the losses of three steps are those on the plain weights, to 5 %.
Tests: `tests/nodes/training/test_packed.py` and `tests/nodes/together/test_quantised.py`, which passed with the package
city96/ComfyUI-GGUF 795e451 itself in the stand-in's place too. The layers without a weight stand for Nunchaku's, which
need a GPU and were not run.""",
    "slider formats": """Random sliders in the formats of published files: over a whole run to the bit what ComfyUI's
own loader makes of them, in a window and in a sweep what a run written out by hand gives. Tests:
`tests/nodes/lora/test_formats.py`. In a window, kinds of weights that no line names (BOFT, GLoRA, resizing LoRAs,
norm weights) are ComfyUI's own merge; in a sweep they are refused before sampling, with the reason.""",
}
NOT_RUN = """## Not run

- Published checkpoints and published slider files, of any family.
- ComfyUI's dynamic memory management (GPU only): the tests marked `gpu` in `tests/server` are skipped without a GPU.
- `torch.compile`, several GPUs and context windows, except where a table above names them.
"""

Key = tuple[str, str, str]  # table, row, feature


@dataclass
class Cell:
    refusals: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "not run" if self.skipped else "no" if self.refusals else "yes"

    @property
    def reasons(self) -> list[str]:
        return list(dict.fromkeys([*self.skipped, *self.refusals]))


@dataclass(eq=False)  # pytest keeps its plugins in sets
class Collector:
    """A pytest plugin that fills the cells."""

    cells: dict[Key, Cell] = field(default_factory=dict)
    # By table and row: how its model was made, and the memory it took in GB.
    made: dict[tuple[str, str], str] = field(default_factory=dict)
    peaks: dict[tuple[str, str], float] = field(default_factory=dict)
    partial: bool = False
    _keys: dict[str, Key] = field(default_factory=dict)

    def pytest_deselected(self, items: list) -> None:
        self.partial = self.partial or any(item.get_closest_marker("compat") for item in items)

    def pytest_collection_finish(self, session: Any) -> None:
        self.partial = self.partial or session.config.args_source is pytest.Config.ArgsSource.ARGS
        for item in session.items:
            found: dict[str, str] = {"table": "families"}
            for mark in item.iter_markers("compat"):
                found |= mark.kwargs
            if "row" in found and "feature" in found:
                key = self._keys[item.nodeid] = (found["table"], found["row"], found["feature"])
                self.cells.setdefault(key, Cell())
                if "made" in found:
                    self.made[key[:2]] = found["made"]

    def pytest_runtest_logreport(self, report: Any) -> None:
        key = self._keys.get(report.nodeid)
        if key is None:
            return
        if report.skipped:
            self.cells[key].skipped.append(str(report.longrepr[2]).removeprefix("Skipped: "))
        if report.when == "teardown":  # now the properties are complete
            for name, value in report.user_properties:
                if name == "no":
                    self.cells[key].refusals.append(str(value))
                elif name == "peak":
                    self.peaks[key[:2]] = max(value, self.peaks.get(key[:2], 0.0))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(name: str, found: Collector) -> str:
    """A section of the page: its title and text, the table, and the reasons of what is not "yes"."""
    keys = [key for key in found.cells if key[0] == name]
    features = list(dict.fromkeys(feature for _, _, feature in keys))
    rows = list(dict.fromkeys(row for _, row, _ in keys))
    title, what = TABLES.get(name, (name.capitalize(), ""))
    models = any((name, row) in found.made for row in rows)
    reasons: list[str] = []
    lines = [_line([what, *features, *(["checkpoint", "real weights"] if models else [])])]
    lines.append("|" + "---|" * (lines[0].count("|") - 1))
    for row in rows:
        shown = []
        for feature in features:
            cell = found.cells.get((name, row, feature))
            text = cell.text if cell else ""
            for reason in cell.reasons if cell else []:
                if reason not in reasons:
                    reasons.append(reason)
                text += f" ({reasons.index(reason) + 1})"
            shown.append(text)
        if models:
            peak = found.peaks.get((name, row))
            memory = f"; {peak:.1f} GB of memory at most" if peak is not None else ""
            shown += [found.made.get((name, row), "") + memory, "not yet"]
        lines.append(_line([row, *shown]))
    listed = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n\n".join(filter(None, (f"## {title}", TEXTS.get(name), "\n".join(lines), "\n".join(listed))))


def page(found: Collector, versions: dict[str, str], suite: str, register: str) -> str:
    """The whole page. versions: date, comfyui, torch and python; suite: the section of whole runs on several hosts;
    register: the section of what a model carries."""
    names = dict.fromkeys([*TABLES, *(table for table, _, _ in found.cells)])
    used = {table for table, _, _ in found.cells}
    sections = [_table(name, found) for name in names if name in used]
    return "\n\n".join([INTRODUCTION.format(**versions), suite, *sections, register, NOT_RUN])


def cells_of(text: str) -> set[Key]:
    """The filled cells of a page."""
    names = {title: name for name, (title, _) in TABLES.items()}
    cells = set()
    for section in text.split("\n## ")[1:]:
        title = section.splitlines()[0]
        lines = [re.split(r" *\| *", line)[1:-1] for line in section.splitlines() if line.startswith("|")]
        for line in lines[2:]:
            for feature, value in zip(lines[0][1:], line[1:], strict=True):
                if re.fullmatch(r"(yes|no|not run)( \(\d+\))*", value):
                    cells.add((names.get(title, title.lower()), line[0], feature))
    return cells


def _versions() -> dict[str, str]:
    from ..machine import description  # ComfyUI is prepared by now: the tests have run

    return {**description(), "python": platform.python_version()}


def write(arguments: list[str]) -> int:
    """Run the marked tests and write the page; pytest's exit code."""
    found = Collector()
    code = pytest.main([*SELECTION, *arguments], plugins=[found])
    if code != 0 or found.partial:
        why = "these are not all tests" if code == 0 else "not all tests passed"
        sys.stderr.write(f"{PAGE.name} is left as it was: {why}\n")
        return int(code)
    paths.write(PAGE, page(found, _versions(), hosts.section(hosts.read()), carried.of_the_nodes()))
    return 0


def check() -> int:
    """0 if the page has exactly the cells that the tests fill; says on stderr what differs. Runs no test."""
    found = Collector()
    code = pytest.main([*SELECTION, "--collect-only", "-p", "no:terminal"], plugins=[found])
    if code != 0:
        sys.stderr.write("the tests cannot be collected\n")
        return int(code)
    written, collected = cells_of(PAGE.read_text(encoding="utf-8")), set(found.cells)
    for what, cells in (("is missing in", collected - written), ("is of no test, but in", written - collected)):
        for cell in sorted(cells):
            sys.stderr.write(f"{' / '.join(cell)} {what} {PAGE.name}; run `python dev.py test --compat`\n")
    return int(written != collected)


if __name__ == "__main__":
    sys.exit(check() if sys.argv[1:] == ["--check"] else write(sys.argv[1:]))
