"""A training that was stopped and goes on is one that never stopped, to the last bit; and what lies in the folder."""

from __future__ import annotations

import comfy.model_management
import folder_paths
import pytest
import safetensors
import tiny_models
import torch
from semantic_steering.nodes.host.training.kept import Kept
from semantic_steering.nodes.host.training.run import Training
from training_runs import same, training

ABOUT = {"target": "person", "positive": "person, smiling", "guidance": "1.5"}


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


def begun(about: dict = ABOUT, **options) -> tuple[Training, Kept]:
    run = training(tiny_models.unet_model(), **options)
    return run, Kept.of(run, "person: smiling", about)


def interrupted(at: int = 3) -> tuple[Training, Kept]:
    run, kept = begun()
    run.run(at)
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run.run(8)
    kept.write(run, "interrupted")
    return run, kept


def test_going_on_is_bit_equal_to_never_having_stopped():
    interrupted()
    run, kept = begun()
    assert kept.resume(run) == 3
    run.run(6)
    whole, _ = begun()
    whole.run(6)
    same(run, whole)


def test_before_the_first_step_there_is_nothing_to_keep(output):
    run, kept = begun()
    assert kept.write(run, "interrupted") is None
    assert list(output.iterdir()) == []


def test_the_file_is_a_lora_with_its_settings_and_its_step(output):
    run, _ = interrupted()
    (file,) = output.glob("loras/*.safetensors")
    assert file.name.startswith("person_smiling_")
    with safetensors.safe_open(file, "pt") as found:  # type: ignore[attr-defined]
        assert found.metadata() == {**ABOUT, "state": "interrupted at step 3"}
        assert set(found.keys()) == set(run.factors.tensors())
        assert all(torch.equal(found.get_tensor(name), value) for name, value in run.factors.tensors().items())


def test_other_inputs_another_model_or_another_seed_begin_anew():
    interrupted()
    for options in ({"about": {**ABOUT, "guidance": "2"}}, {"seed": 8}, {"rank": 3}, {"layers": "all"}):
        run, kept = begun(**options)
        assert kept.resume(run) == 0
    other = training(tiny_models.unet_model(seed=1))
    assert Kept.of(other, "person: smiling", ABOUT).resume(other) == 0


def test_a_second_stop_leaves_both_sliders_and_goes_on_from_the_later(output):
    interrupted()
    run, kept = begun()
    kept.resume(run)
    run.run(5)
    kept.write(run, "interrupted")
    assert len(list(output.glob("loras/*.safetensors"))) == 2
    assert len(kept.files()) == 1
    again, kept = begun()
    assert kept.resume(again) == 5


def test_after_the_end_the_slider_stays_and_the_next_run_begins_anew(output):
    _, kept = interrupted()
    kept.forget()
    assert len(list(output.glob("loras/*"))) == 1
    run, kept = begun()
    assert kept.resume(run) == 0


@pytest.mark.parametrize("end", [".safetensors", ".training"])
def test_a_damaged_file_is_said_and_the_training_begins_anew(output, caplog, end):
    interrupted()
    (file,) = output.glob(f"loras/*{end}")
    file.write_bytes(file.read_bytes()[:-10])
    run, kept = begun()
    before = run.factors.tensors()
    assert kept.resume(run) == 0
    assert run.losses == []
    assert "cannot be gone on from" in caplog.text
    assert all(torch.equal(value, before[name]) for name, value in run.factors.tensors().items())


def test_going_on_from_a_slider_of_another_kind_is_refused_in_words():
    run, _ = begun()
    tensors = run.factors.tensors()
    with pytest.raises(ValueError, match=r"slider: .* is 3x32.*, here it is 2x32.* \(rank 2\); set rank as it was"):
        run.factors.load(training(tiny_models.unet_model(), rank=3).factors.tensors(), "slider")
    with pytest.raises(ValueError, match=r"slider has other layers than layers chooses here: .* Set layers as it was"):
        run.factors.load(training(tiny_models.unet_model(), layers="all").factors.tensors(), "slider")
    alpha = {name: value * 4 if name.endswith("alpha") else value for name, value in tensors.items()}
    with pytest.raises(ValueError, match="slider was trained with an alpha of 4, alpha is 1 here; set it to 4"):
        run.factors.load(alpha, "slider")
    broken = {name: value * float("nan") if "lora_up" in name else value for name, value in tensors.items()}
    with pytest.raises(ValueError, match="holds values that are no numbers"):
        run.factors.load(broken, "slider")
    assert all(torch.equal(value, tensors[name]) for name, value in run.factors.tensors().items())
