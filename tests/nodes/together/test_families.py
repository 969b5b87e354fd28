"""Every feature on every family, on checkpoints as the stock loaders make them: rows of docs/compatibility.md.

Promised for each: a neutral setting gives the bits of not using the node, another one changes the latent by more than
1 %, and the MODEL is afterwards what it was. An inversion comes back at 70 dB or more: these networks are calm enough
for that (family_models.CALM), on chaotic ones no fixed point is found.
"""

from __future__ import annotations

import gc
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import comfy.model_detection
import comfy.model_management
import edit_runs
import family_models
import lora_states as states
import pytest
import tiny_models
import torch
from edit_runs import Inverted
from family_models import Family, Row
from semantic_steering.nodes.sega import SEGAConceptConditioning, SEGAGuidance
from slider_runs import load

from nodes import common_ksampler

STEPS, SCHEDULER = 2, "sgm_uniform"  # two levels, of which the second lies inside a slider's default window
ROUND_TRIP = 70.0  # dB
SCALE, STRENGTH = 10.0, 6.0
VISIBLE = 0.01
LARGEST = 16.0  # GB
# What the network is given that comes from a prompt's text, by the names that the families use.
TEXT = {"y", "num_tokens"}


@dataclass
class Case:
    """A family with what several tests need of it."""

    row: Row
    family: Family

    def __post_init__(self):
        self.state = tiny_models.state_of(self.family.model)

    def generate(self, model: Any, positive: list | None = None, negative: list | None = None) -> torch.Tensor:
        """KSampler."""
        family = self.family
        latent = {"samples": torch.zeros(1, *family.shape)}
        positive, negative = positive or family.positive, negative or family.negative
        (found,) = common_ksampler(model, 7, STEPS, family.cfg, "euler", SCHEDULER, positive, negative, latent)
        return found["samples"]

    @cached_property
    def plain(self) -> torch.Tensor:
        """The picture without any of the pack's nodes."""
        return self.generate(self.family.model)

    @cached_property
    def picture(self) -> torch.Tensor:
        return self.family.noise(seed=5)

    @cached_property
    def inverted(self) -> Inverted:
        return edit_runs.invert(self.family.model, self.family.positive, self.picture, steps=6, denoise=0.34)

    @property
    def conds(self) -> int:
        """Conditionings a step of a steered run: positive, negative where there is a guidance, and the concept."""
        return 2 if self.family.cfg == 1 else 3


PROCESS = Path("/proc/self")  # Linux only


def forget_peak() -> None:
    """From now on the peak is that of what follows."""
    if (PROCESS / "clear_refs").exists():
        (PROCESS / "clear_refs").write_text("5")


def peak_memory() -> float | None:
    """The largest resident set of this process in GB, weights that are mapped from a file included."""
    if not (PROCESS / "status").exists():
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", (PROCESS / "status").read_text())
    return int(found[1]) * 1024 / 1e9 if found else None


def marks(row: Row) -> list:
    compat = pytest.mark.compat(row=row.title, made=row.made)
    return [compat, pytest.mark.full_size, pytest.mark.slow] if row.full_size else [compat]


@pytest.fixture(scope="module", params=[pytest.param(row, id=row.name, marks=marks(row)) for row in family_models.ROWS])
def case(request, tmp_path_factory):
    """One family at a time: gone before the next one is made."""
    gc.collect()
    forget_peak()
    folder = tmp_path_factory.mktemp("checkpoint")
    yield Case(request.param, request.param.build(folder))
    comfy.model_management.unload_all_models()
    shutil.rmtree(folder, ignore_errors=True)  # pytest would keep whole models for the next runs


@pytest.fixture(autouse=True)
def little_memory(case, record_property):
    """The table shows what a whole model took: a whole SDXL fits into a machine of 16 GB."""
    yield
    peak = peak_memory()
    if case.row.full_size and peak is not None:
        record_property("peak", peak)
        assert peak < LARGEST


def steered(case: Case, scale: float, target: list | None = None) -> Any:
    """The MODEL behind a SEGA Concept (Conditioning) and SEGA Guidance."""
    conditioning = target or case.family.target
    (concepts,) = SEGAConceptConditioning.execute(conditioning, scale=scale, start_percent=0.0).args
    return SEGAGuidance.execute(case.family.model, concepts).args[0]


def test_the_loader_takes_it_for_this_family(case):
    model = case.family.model.model
    assert type(model.model_config) is case.row.config
    assert model.model_type is case.row.kind
    if case.row.recognised:
        weights = case.row.network(case.row.recognised).state_dict()
        assert type(comfy.model_detection.model_config_from_unet(weights, "")) is case.row.config


@pytest.mark.compat(feature="SEGA")
def test_sega_steers_it_in_one_forward_a_step(case):
    assert torch.equal(case.generate(steered(case, 0.0)), case.plain)
    calls = tiny_models.recorded(steered(case, SCALE))
    assert tiny_models.relative(case.generate(calls.model), case.plain) > VISIBLE
    assert calls.batches == [case.conds] * STEPS


def part(value: Any, index: int, parts: int) -> Any:
    """What one conditioning of a batched forward was given."""
    if isinstance(value, list):
        return [part(one, index, parts) for one in value]
    return value.chunk(parts)[index] if isinstance(value, torch.Tensor) else value


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.compat(feature="SEGA")
def test_a_concept_gets_what_the_positive_carries_beside_its_text(case):
    """Its own conditioning carries nothing but text: reference latents, guidance and pictures are the positive's."""
    family, context = case.family, case.row.context
    positive, negative, target = map(case.row.text_only, (family.positive, family.negative, family.target))
    bare = tiny_models.recorded(family.model)
    case.generate(bare.model, positive, negative)
    calls = tiny_models.recorded(steered(case, SCALE, target))
    case.generate(calls.model)
    for call, untold in zip(calls.seen, bare.seen, strict=True):
        assert set(call.extra) - TEXT == set(context) | (set(untold.extra) - TEXT)
        at = {cond: part for part, cond in enumerate(call.conds)}
        for name in context:
            given = [part(call.extra[name], at[cond], len(at)) for cond in (0, 2)]
            assert same(*given), name
            default = part(untold.extra.get(name), untold.conds.index(0), len(untold.conds))
            assert default is None or not same(given[0], default), name


@pytest.mark.compat(feature="SEGA, texts of different lengths in one forward")
def test_texts_of_different_lengths(case, record_property):
    """ComfyUI repeats a UNet's text up to a common length; the text of other networks it leaves as it is."""
    features, options = case.family.target[0]
    shorter = [[features[:, : features.shape[1] // 2], options]]
    calls = tiny_models.recorded(steered(case, SCALE, shorter))
    assert tiny_models.relative(case.generate(calls.model), case.plain) > VISIBLE
    if case.row.any_length:
        assert calls.batches == [case.conds] * STEPS
    else:
        assert sum(calls.batches) == case.conds * STEPS
        assert len(calls.batches) == 2 * STEPS
        record_property("no", "ComfyUI evaluates a text of another length apart: a second forward a step")


@pytest.mark.compat(feature="DDIM inversion")
def test_an_inversion_comes_back(case):
    assert tiny_models.relative(case.inverted.inversion.latents[-1], case.inverted.inversion.latents[0]) > VISIBLE
    back = edit_runs.decode(case.family.model, case.family.positive, case.inverted, case.picture)
    assert edit_runs.psnr(back, case.picture) > ROUND_TRIP


@pytest.mark.compat(feature="DiffEdit mask")
def test_a_mask_marks_where_two_texts_differ(case):
    """threshold x clamp = 1: what is over the mean."""
    family = case.family
    settings = {"maps": 2, "clamp": 2.0, "grow": 0, "blur": 0}
    mask, heat = edit_runs.find_mask(family.model, family.positive, family.target, case.picture, **settings)
    assert 0 < mask.mean() < 1
    assert heat.max() > heat.min() >= 0
    mask, heat = edit_runs.find_mask(family.model, family.positive, family.positive, case.picture, **settings)
    assert not mask.any()
    assert not heat.any()


@pytest.mark.compat(feature="DiffEdit sampler")
def test_an_edit_stays_inside_its_mask(case):
    family, inversion = case.family, case.inverted.inversion
    ratio = family.model.get_model_object("latent_format").spacial_downscale_ratio
    width = family.shape[-1]
    mask = torch.zeros(1, family.shape[-2] * ratio, width * ratio)
    arguments = (family.model, family.target, family.negative, inversion)
    assert torch.equal(edit_runs.edit(*arguments, mask, family.cfg), case.picture)
    mask[..., : width // 2 * ratio] = 1
    edited = edit_runs.edit(*arguments, mask, family.cfg)
    assert torch.equal(edited[..., width // 2 :], case.picture[..., width // 2 :])
    assert tiny_models.relative(edited, case.picture) > VISIBLE


@pytest.mark.compat(feature="slider")
def test_a_slider_acts_within_its_window(case):
    model = case.family.model
    prefix = "transformer." if case.row.config.__name__ == "Flux" else "diffusion_model."  # Flux: parts of a fused qkv
    state = states.peft(states.targets(model, prefix, lambda name: "att" in name))
    assert torch.equal(case.generate(load(model, state, 0.0)), case.plain)
    late = case.generate(load(model, state, STRENGTH, start=0.2))
    assert tiny_models.relative(late, case.plain) > VISIBLE
    assert tiny_models.relative(case.generate(load(model, state, STRENGTH)), late) > VISIBLE


def test_afterwards_the_model_is_what_it_was(case):
    assert torch.equal(case.generate(case.family.model), case.plain)
    assert tiny_models.state_of(case.family.model) == case.state
