"""`dev.py gallery` on a random checkpoint that ComfyUI takes for Stable Diffusion 1.5: a run that is stopped, one that
goes on, and files that are no checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from devtools.gallery.checkpoints import CheckpointError, examine
from devtools.host import ROOT, prepare_comfyui

SIDE = 128
WISHES = {
    "families": {"SD15": {"size": SIDE, "steps": 3}},
    "seeds": [1],
    "negative": "",
    "scenes": {
        "glasses": {
            "title": "Glasses", "workflow": "sega_one_concept", "seeds": [1, 2],
            "nodes": {"SEGA Concept": {"text": "glasses", "start_percent": 0.0}},
        },
        "too_much": {
            "title": "Refused", "workflow": "sega_one_concept", "nodes": {"SEGA Concept": {"scale": 500.0}},
        },
        "pears": {
            "title": "Pears", "workflow": "diffedit_replace", "picture": "apples",
            # Random weights are chaotic: three steps of theirs cannot be solved backwards.
            "nodes": {"DiffEdit Mask": {"threshold": 0.3, "maps": 2}, "DDIM Invert": {"method": "ddim"}},
        },
        "slider": {"title": "A slider", "workflow": "slider_basic"},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    prepare_comfyui(cpu=True)
    import comfy.supported_models
    from edit_checkpoints import SD15, write_checkpoint

    file = tmp_path_factory.mktemp("gallery") / "mine.safetensors"
    write_checkpoint(file, comfy.supported_models.SD15({**SD15, "in_channels": 4}))
    yield file
    file.unlink()  # a quarter of a gigabyte


def start(checkpoint: Path, out: Path, prompts: Path) -> psutil.Popen:
    command = [sys.executable, "-m", "devtools.gallery.gallery", "--checkpoint", str(checkpoint), "--out", str(out)]
    return psutil.Popen(
        [*command, "--prompts", str(prompts)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def unfinished(out: Path) -> list[Path]:
    return [file for file in out.rglob("*") if ".part" in file.suffixes]


@pytest.mark.server
@pytest.mark.slow
def test_a_gallery_is_stopped_and_goes_on_where_it_was(sd15, tmp_path):
    prompts, out = tmp_path / "mine.yaml", tmp_path / "gallery"
    prompts.write_text(yaml.safe_dump(WISHES, sort_keys=False), encoding="utf-8")
    with start(sd15, out, prompts) as first:
        lines = []
        for line in first.stderr:
            lines.append(line)
            if "1 of 4: glasses, seed 1" in line:
                break
        servers = first.children(recursive=True)
        first.terminate()
        lines += first.stderr.readlines()
        assert first.wait() == 143, "".join(lines)
    assert f"mine.safetensors is SD15: pictures of {SIDE} x {SIDE} pixels" in "".join(lines)
    assert servers and not psutil.wait_procs(servers, timeout=20)[1]
    report = json.loads((out / "report.json").read_text())
    assert [(entry["scene"], entry["seed"]) for entry in report["strips"]] == [("glasses", 1)]
    kept = out / "strips" / "glasses_1.webp"
    written = kept.stat().st_mtime_ns
    assert not unfinished(out)

    with start(sd15, out, prompts) as second:
        said, log = second.communicate()
        assert second.returncode == 1, log  # for the scene that the host refuses
    assert "1 of 4 strips are there already" in log and "1 of 3: too_much, seed 1 failed" in log
    assert "2 of 3: pears, seed 1 (" in log and "3 of 3: glasses, seed 2 (" in log
    assert kept.stat().st_mtime_ns == written
    report = json.loads((out / "report.json").read_text())
    assert report["checkpoint"]["family"] == "SD15" and report["checkpoint"]["size"] == SIDE
    strips = {(entry["scene"], entry["seed"]): entry for entry in report["strips"]}
    assert list(strips) == [("glasses", 1), ("glasses", 2), ("pears", 1)]
    assert "Value 500.0 bigger than max" in report["failed"]["too_much, seed 1"]
    assert report["left_out"] == {"slider": "needs slider files (smiling.pt): give their folder with --loras"}
    assert "slider: left out, it needs slider files" in said and "too_much, seed 1: failed, node " in said
    assert said.strip().endswith("index.html")
    for entry in strips.values():
        with Image.open(out / entry["file"]) as strip:
            assert strip.width > strip.height
    pears = strips["pears", 1]
    assert pears["background_error"] == 0 and 0 < pears["mask_share"] < 1
    with Image.open(out / pears["picture"]) as picture:
        assert picture.size == (SIDE, SIDE)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert all(f'src="{entry["file"]}"' in page for entry in strips.values())
    assert not unfinished(out)


def test_a_checkpoint_is_what_the_host_takes_it_for(sd15, checkpoint, tmp_path):
    found = examine(sd15)
    assert (found.family, len(found.sha256)) == ("SD15", 64)
    assert examine(checkpoint).family == "Portraits v-prediction"
    pickled = tmp_path / "mine.ckpt"
    torch.save({"state_dict": load_file(checkpoint), "epoch": 3}, pickled)
    assert examine(pickled).family == "Portraits v-prediction"


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (os.abort, ())


def test_what_is_no_whole_checkpoint_is_refused_with_the_reason(checkpoint, tmp_path):
    state = load_file(checkpoint)
    network = {name: value for name, value in state.items() if name.startswith("model.diffusion_model.")}
    with_text = {name: value for name, value in state.items() if not name.startswith("first_stage_model.")}
    lora = {"lora_unet_input_blocks_1_1.lora_up.weight": torch.ones(4, 4)}
    save_file(network, tmp_path / "network.safetensors")
    save_file(with_text, tmp_path / "no_vae.safetensors")
    save_file(
        {name.removeprefix("model.diffusion_model."): v for name, v in network.items()}, tmp_path / "alone.safetensors"
    )
    save_file(lora, tmp_path / "lora.safetensors")
    (tmp_path / "half.safetensors").write_bytes(checkpoint.read_bytes()[:-1000])
    (tmp_path / "page.safetensors").write_text("<!doctype html> not found")
    (tmp_path / "empty.ckpt").touch()
    torch.save({"state_dict": Code()}, tmp_path / "code.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    (tmp_path / "notes.txt").touch()
    messages = {
        "network.safetensors": r"\(Portraits\) holds no text encoder and no autoencoder: .*Save Checkpoint",
        "no_vae.safetensors": r"\(Portraits\) holds no autoencoder: ",
        "alone.safetensors": r"holds only a diffusion model \(Portraits\): ",
        "lora.safetensors": "holds no model that ComfyUI knows: ",
        "half.safetensors": "is damaged or is no checkpoint .*: compare its size",
        "page.safetensors": "is damaged or is no checkpoint",
        "empty.ckpt": "is damaged or is no checkpoint",
        "code.ckpt": "is damaged or is no checkpoint",
        "list.ckpt": "is damaged or is no checkpoint",
        "notes.txt": r"is not a file that Load Checkpoint takes \(.*\.safetensors",
        "": "is a folder: name the checkpoint's one file",
        "missing.safetensors": "there is no file ",
    }
    for name, message in messages.items():
        with pytest.raises(CheckpointError, match=message) as refused:
            examine(tmp_path / name)
        assert str(tmp_path) in str(refused.value)
