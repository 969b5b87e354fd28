"""`dev.py bench` runs through and writes its figures. Says nothing about speed; counts and peaks are exact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from parity import without_diffusers

from benchmarks import NAMES, page

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="needs ComfyUI: run `python dev.py test`"),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The quick figures of all benchmarks, and what the command printed."""
    if "SEMANTIC_STEERING_ORACLE" not in os.environ:
        without_diffusers()
    folder = tmp_path_factory.mktemp("bench")
    files = ["--json", str(folder / "figures.json"), "--out", str(folder)]
    command = [sys.executable, "-m", "benchmarks", "--quick", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "figures.json").read_text(encoding="utf-8")), done.stdout, folder


def rows_of(bench, name):
    found = [row for row in bench[0]["rows"] if row["benchmark"] == name]
    assert found
    return found


def test_the_file_says_where_its_figures_are_from(bench):
    result, printed, _ = bench
    assert {"date", "kind", "device", "attention", "torch", "comfyui", "command"} <= set(result)
    assert {row["benchmark"] for row in result["rows"]} == set(NAMES)
    assert printed.count("\n| ") == len(result["rows"]) + 2 * 11, "a table has two lines above its rows"


def test_sega_makes_the_authors_latents_with_no_more_evaluations(bench):
    rows = rows_of(bench, "sega")
    for row in rows:
        assert row["ours_s"] > 0
        if row["model"] == "tiny":
            # Held directions are not the authors'.
            assert (row["difference"] < 1e-3) is ("refresh" not in row["setting"]), row
            assert row["entries"] <= row["their_entries"] == 5 * (2 + row["concepts"])
    found = {(row["concepts"], row["setting"]): row["entries"] for row in rows if row["model"] == "tiny"}
    for count in (1, 2):  # of 5 steps: all; without the first; without the first and the last two
        assert found[count, "momentum"] == 5 * (2 + count)
        assert found[count, "no momentum"] == 5 * 2 + 4 * count
        assert found[count, "no momentum, early end"] == 5 * 2 + 2 * count
        assert found[count, "no momentum, refresh 2"] == 5 * 2 + 2 * count
    flux = {(row["concepts"], row["setting"]): row["entries"] for row in rows if row["model"] == "tiny Flux"}
    assert flux[0, "no concepts"] == 5
    assert flux[2, "momentum"] == 5 * 3


def test_diffedit_finds_the_ports_mask_with_half_the_evaluations(bench):
    mask, edit = rows_of(bench, "diffedit")
    assert (mask["entries"], mask["their_entries"], mask["difference"]) == (20, 40, 0.0)
    assert 0 < mask["size_of_mask"] < 1
    assert (edit["entries"], edit["their_entries"]) == (20 + 4 + 8, 40 + 4 + 8)
    assert edit["difference"] < 1e-4, "the same noisiest state of the inversion"


def test_ledits_and_our_way_take_as_many_evaluations(bench):
    for row in rows_of(bench, "ledits"):
        assert row["their_entries"] == 5 * (2 + row["concepts"])
        spared = row["concepts"] if row["setting"] == "warm-up" else 0
        assert row["entries"] == row["their_entries"] - spared


def test_the_edit_term_is_profiled(bench):
    rows = rows_of(bench, "edit_term")
    shares = [row for row in rows if row["kind"] == "share"]
    assert {row["evaluated"] for row in shares} == {True, False}
    assert all(row["term_ms"] > 0 < row["tera_operations"] for row in shares)
    assert any(row["operation"] == "aten::topk" for row in rows if row["kind"] == "profile")
    assert {row["way"] for row in rows if row["kind"] == "rank"} == {"sort", "kthvalue", "topk"}


def test_sega_takes_the_memory_of_a_plain_run_with_as_many_conditionings(bench):
    for row in rows_of(bench, "memory"):
        assert 0.9 < row["of_plain"] <= 1.05, row


def test_cost_fits_a_line_to_every_series(bench):
    rows = rows_of(bench, "cost")
    assert {row["series"] for row in rows if row["kind"] == "point"} == {"concepts", "steps", "pixels"}
    lines = {(row["series"], row["of"]) for row in rows if row["kind"] == "line"}
    assert lines == {
        (series, of) for series in ("concepts", "steps", "pixels") for of in ("ours", "plain", "extra")
    } - {("concepts", "plain")}
    assert 0 < (bench[2] / "cost.webp").stat().st_size <= 120 * 1024


def test_sliders_measure_the_same_picture_in_every_way(bench):
    rows = rows_of(bench, "sliders")
    assert len(rows) == 19
    ways = {(row["sliders"], row["windows"], row["way"]) for row in rows}
    settings = [(1, "one"), (4, "one"), (4, "four"), (10, "one"), (10, "four")]
    expected = {(*setting, way) for setting in settings for way in ("switched", "hooks", "keyframes")}
    assert ways == expected | {(0, "", "bare"), *((count, "", "stock") for count in (1, 4, 10))}
    for row in rows:
        assert row["rounds"] == 1
        assert row["step_s"] > 0 < row["run_s"]
        edges = {"one": 1, "four": 4}.get(row["windows"], 0)
        written = {"switched": edges, "keyframes": edges + 1}  # the host's keyframes also write before the first step
        assert row["changes"] == written.get(row["way"], 0), row
        assert row["difference"] is None or row["difference"] < 1e-5, row


def test_a_training_step_takes_less_memory_with_blocks_recomputed(bench):
    kept, recomputed = rows_of(bench, "training")
    assert kept["finite"] and recomputed["finite"]
    assert (kept["at_once"], recomputed["at_once"]) == (1, 2)
    assert recomputed["peak"] < 2 * kept["peak"]  # of twice as many pictures
    assert kept["ratio"] > 1


def test_the_page_has_one_place_for_the_table_of_every_benchmark(tmp_path):
    copy = tmp_path / "performance.md"
    copy.write_text(page.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    keys = ("date", "device", "torch", "comfyui", "attention", "command")
    places = [(name, kind) for name in NAMES for kind in ("cpu", "cuda")]
    for name, kind in places:
        page.write(copy, name, {**dict.fromkeys(keys, "?"), "kind": kind}, f"| the table of {name} on {kind} |")
    text = copy.read_text(encoding="utf-8")
    assert all(f"\n| the table of {name} on {kind} |\n{page.END}\n" in text for name, kind in places)
    assert text.count(page.END) == len(places)
    with pytest.raises(ValueError, match="needs one line"):
        page.write(copy, "unknown", {"kind": "cpu"}, "")


def test_names_and_commands_agree():
    done = subprocess.run(
        [sys.executable, "dev.py", "bench", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert all(name in done.stdout for name in NAMES)
    assert set(NAMES) <= {file.stem for file in (ROOT / "benchmarks").glob("*.py")}
