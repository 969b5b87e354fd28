"""Every feature on packed weights: ComfyUI's own quantised layers, GGUF's, and layers without a weight.

Right are the host's own loader at constant strength, to the bit, and otherwise what the plain model of the same weights
gives: within what packing changes by itself (activations of int8 layers, weights that the host packs again).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import comfy.model_management
import edit_runs
import lora_states as states
import pytest
import quantised
import tiny_models
import torch
from edit_runs import Inverted
from family_models import Family
from offloaded import little_memory
from quantised import NO_WEIGHT
from semantic_steering.nodes.sega import SEGAConceptConditioning, SEGAGuidance, SEGASampler
from semantic_steering.nodes.vectors import SEGAApplyVectors
from slider_runs import by_hand, load, stock, sweep

STRENGTH, START, CLOSE = 0.7, 0.3, 1e-4
VISIBLE = 0.01


@dataclass
class Case:
    """A packed model beside the plain one, and a slider for all layers of its blocks."""

    kind: str
    packed: Family
    plain: Family

    def __post_init__(self):
        self.slider = states.peft(states.targets(self.plain.model, "transformer.", lambda name: "_blocks" in name))
        self.start = self.plain.noise(2)

    def both(self, run: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return run(self.packed), run(self.plain)

    @cached_property
    def bare(self) -> torch.Tensor:
        return self.packed.sample(self.packed.model, self.start)

    @cached_property
    def slack(self) -> float:
        """How far packing alone moves a run, and rounding."""
        return 3 * tiny_models.relative(self.bare, self.plain.sample(self.plain.model, self.start)) + CLOSE

    @cached_property
    def repacked(self) -> float:
        """How far the host's loader is off, because it packs the sum of weights and slider again."""
        found, right = self.both(lambda f: f.sample(stock(f.model, (self.slider, STRENGTH)), self.start))
        return tiny_models.relative(found, right) + CLOSE


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(kind, id=kind, marks=pytest.mark.compat(table="quantised models", row=kind))
        for kind in quantised.FORMATS
    ],
)
def case(request):
    pair = quantised.flux(request.param)
    yield Case(request.param, pair.packed, pair.plain)
    comfy.model_management.unload_all_models()


@pytest.mark.compat(feature="slider, whole run")
def test_a_whole_run_is_the_hosts_own_loader_to_the_bit(case):
    """Of layers without a weight the host's loader changes none; theirs is the plain model's result."""
    found = case.packed.sample(load(case.packed.model, case.slider, STRENGTH), case.start)
    if case.kind == NO_WEIGHT:
        right = case.plain.sample(stock(case.plain.model, (case.slider, STRENGTH)), case.start)
        assert tiny_models.relative(found, right) < CLOSE
    else:
        right = case.packed.sample(stock(case.packed.model, (case.slider, STRENGTH)), case.start)
        assert torch.equal(found, right)
    assert tiny_models.relative(right, case.bare) > VISIBLE
    assert torch.equal(case.packed.sample(case.packed.model, case.start), case.bare)


@pytest.mark.slow
@pytest.mark.compat(feature="window")
def test_a_window_is_the_hosts_loader_in_a_part_of_the_run(case):
    found, plain = case.both(lambda f: f.sample(load(f.model, case.slider, STRENGTH, START), f.noise(1)))
    family = case.plain if case.kind == NO_WEIGHT else case.packed
    edge = family.model.get_model_object("model_sampling").percent_to_sigma(START)
    patched = stock(family.model, (case.slider, STRENGTH))
    right = by_hand(family, lambda sigma: patched if sigma <= edge else family.model, family.noise(1))
    assert tiny_models.relative(found, right) < CLOSE
    assert tiny_models.relative(found, plain) < (case.slack if case.kind == NO_WEIGHT else case.repacked)
    assert torch.equal(case.packed.sample(case.packed.model, case.start), case.bare)


@pytest.mark.slow
@pytest.mark.compat(feature="sweep")
def test_a_sweep_is_that_of_the_plain_model(case):
    found, right = case.both(
        lambda f: f.sample(sweep(f.model, case.slider, f"{STRENGTH}, 0", START, channels=16), case.start)
    )
    assert tiny_models.relative(found, right) < case.slack
    assert tiny_models.relative(found[1:], case.bare[1:]) < case.slack
    assert tiny_models.relative(found[:1], case.bare[:1]) > VISIBLE
    assert torch.equal(case.packed.sample(case.packed.model, case.start), case.bare)


@pytest.mark.slow
def test_a_slider_of_the_positive_only_is_that_of_the_plain_model(case):
    found, right = case.both(lambda f: f.sample(load(f.model, case.slider, STRENGTH, to="positive"), case.start))
    assert tiny_models.relative(found, right) < case.slack
    assert tiny_models.relative(found, case.bare) > VISIBLE


def concepts(family: Family) -> Any:
    return SEGAConceptConditioning.execute(family.target, scale=10.0, start_percent=0.0, threshold=0.5).args[0]


@pytest.mark.slow
@pytest.mark.compat(feature="SEGA")
def test_sega_steers_it_like_the_plain_model(case):
    found, right = case.both(lambda f: f.sample(SEGAGuidance.execute(f.model, concepts(f)).args[0], case.start))
    shift = tiny_models.relative(right, case.bare)
    assert shift > VISIBLE
    # A rank of differences: what is at the threshold may fall on either side of it.
    assert tiny_models.relative(found, right) < case.slack + 0.1 * shift


@pytest.mark.slow
@pytest.mark.compat(feature="DiffEdit mask")
def test_a_mask_is_that_of_the_plain_model(case):
    settings = {"maps": 2, "clamp": 2.0, "grow": 0, "blur": 0}
    picture = case.plain.noise(seed=5)
    (mask, heat), (_, right) = case.both(
        lambda f: edit_runs.find_mask(f.model, f.positive, f.target, picture, **settings)
    )
    assert 0 < mask.mean() < 1
    assert tiny_models.relative(heat, right) < 10 * case.slack


@pytest.mark.slow
@pytest.mark.compat(feature="DDIM inversion")
def test_an_inversion_comes_back(case):
    def inverted(family: Family) -> Inverted:
        return edit_runs.invert(family.model, family.positive, picture, steps=6, denoise=0.34)

    picture = case.plain.noise(seed=5)
    found, right = case.both(inverted)
    assert tiny_models.relative(found.inversion.latents[-1], right.inversion.latents[-1]) < case.slack
    back = edit_runs.decode(case.packed.model, case.packed.positive, found, picture)
    assert edit_runs.psnr(back, picture) > (60 if case.kind == "int8" else 70)


@pytest.mark.slow
@pytest.mark.compat(feature="vectors")
def test_recorded_vectors_give_the_run_again(case):
    family = case.packed
    latent = {"samples": torch.zeros(1, *family.shape)}
    arguments = (11, 4, 3.0, "euler", "simple", family.positive, family.negative, latent)
    edited, _, vectors, _ = SEGASampler.execute(family.model, *arguments, concepts=concepts(family)).args
    (again, *_) = SEGASampler.execute(SEGAApplyVectors.execute(family.model, vectors).args[0], *arguments).args
    (plain, *_) = SEGASampler.execute(family.model, *arguments).args
    assert tiny_models.relative(edited["samples"], plain["samples"]) > VISIBLE
    assert tiny_models.relative(again["samples"], edited["samples"]) < case.slack


@pytest.mark.slow
@pytest.mark.compat(feature="offloaded")
@pytest.mark.parametrize("way", ["whole run", "window", "sweep"])
def test_a_slider_on_layers_that_stay_offloaded(case, way):
    """The host then adds the slider to unpacked weights at each use, and packs nothing again."""

    def slid(family: Family) -> Any:
        if way == "sweep":
            return sweep(family.model, case.slider, f"{STRENGTH}, {STRENGTH}", START, channels=16)
        return load(family.model, case.slider, STRENGTH, START if way == "window" else 0.0)

    right = case.plain.sample(slid(case.plain), case.start)
    with little_memory(size=2_000_000):  # bytes, of 20 MB
        found = case.packed.sample(slid(case.packed), case.start)
        assert case.packed.model.model.model_lowvram
        if way == "whole run" and case.kind != NO_WEIGHT:
            own = case.packed.sample(stock(case.packed.model, (case.slider, STRENGTH)), case.start)
            assert torch.equal(found, own)
        bare = case.packed.sample(case.packed.model, case.start)
    assert tiny_models.relative(found, right) < case.slack
    assert tiny_models.relative(bare, case.bare) < case.slack
    assert torch.equal(case.packed.sample(case.packed.model, case.start), case.bare)
