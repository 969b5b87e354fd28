"""`dev.py bench` runs through and writes its figures. Says nothing about speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import NAMES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif("COMFYUI_PATH" not in os.environ, reason="needs ComfyUI: run `python dev.py test`")
def test_sliders_measure_the_same_picture_in_every_way(tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "--name", "sliders", "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text(encoding="utf-8"))
    assert {"date", "device", "torch", "comfyui", "command"} <= set(result)
    rows = result["rows"]
    assert done.stdout.count("\n| tiny |") == len(rows) == 19
    ways = {(row["sliders"], row["windows"], row["way"]) for row in rows}
    settings = [(1, "one"), (4, "one"), (4, "four"), (10, "one"), (10, "four")]
    expected = {(*setting, way) for setting in settings for way in ("switched", "hooks", "keyframes")}
    assert ways == expected | {(0, "", "bare"), *((count, "", "stock") for count in (1, 4, 10))}
    for row in rows:
        assert row["benchmark"] == "sliders"
        assert row["rounds"] == 1
        assert row["step_s"] > 0 < row["run_s"]
        edges = {"one": 1, "four": 4}.get(row["windows"], 0)
        written = {"switched": edges, "keyframes": edges + 1}  # the host's keyframes also write before the first step
        assert row["changes"] == written.get(row["way"], 0), row
        assert row["difference"] is None or row["difference"] < 1e-5, row


def test_names_and_commands_agree():
    done = subprocess.run(
        [sys.executable, "dev.py", "bench", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert all(name in done.stdout for name in NAMES)
