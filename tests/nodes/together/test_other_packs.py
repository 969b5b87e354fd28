"""SEGA, sliders and InstructPix2Pix beside what other packs do to a run: write into its tensors, split and tile its
batches, copy its options, change its cfg."""

from __future__ import annotations

import edit_runs
import pytest
import tiny_models
import torch
from comfy.model_base import ModelType
from comfy_extras.nodes_custom_sampler import CFGOverride
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from edits_by_hand import (
    ACTS,
    CFG,
    CLOSE,
    MODEL,
    NEGATIVE,
    POSITIVE,
    START,
    STEP,
    TARGET,
    chain,
    estimate,
    found_gamma,
    gamma,
    once,
    steered,
)  # fmt: skip
from instruct_runs import Editor
from other_packs import (
    CACHES,
    SCHEDULED_CFG,
    SKIMMED,
    TILED,
    ScheduledCFGGuider,
    beside,
    copies_options,
    one_by_one,
    skimmed_cfg,
    swaps_the_model,
    tea_cache,
    tiled_diffusion,
    two_estimates,
)  # fmt: skip
from slider_runs import FAMILY, ONE, load, stock, sweep

BATCH = FAMILY.noise(1).repeat(3, 1, 1, 1)


@beside(SKIMMED)
class TestFunctionsThatWrite:
    """Pre-CFG functions may write into what they are given: what the pack keeps of a call is its own."""

    @beside(feature="SEGA Guidance")
    def test_the_base_of_a_concept(self):
        skimmed = skimmed_cfg(MODEL)
        assert tiny_models.relative(once(skimmed), once(MODEL)) > ACTS
        expected = gamma(estimate(MODEL, TARGET), estimate(MODEL, NEGATIVE))
        for model in (steered(skimmed), skimmed_cfg(steered(MODEL))):
            assert tiny_models.relative(found_gamma(once(skimmed), once(model)), expected) < CLOSE

    @beside(feature="SEGA Guidance")
    def test_concepts_of_several_nodes(self):
        stacked = steered(steered(MODEL), chain(tiny_models.unet_cond(9)))
        bare, skimmed = (found_gamma(once(model), once(on)) for model, on in (
            (MODEL, stacked), (skimmed_cfg(MODEL), skimmed_cfg(stacked)),
        ))  # fmt: skip
        assert tiny_models.relative(skimmed, bare) < CLOSE

    @beside(feature="InstructPix2Pix")
    def test_the_negative_of_the_pictures_guidance(self):
        editor = Editor()
        found, expected = (
            editor.run(*editor.build(3.0, 1.5, model=skimmed_cfg(editor.model, write)), sigmas=STEP)
            for write in (True, False)
        )
        assert torch.equal(found, expected)
        assert tiny_models.relative(found, editor.run(*editor.build(3.0, 1.5), sigmas=STEP)) > 1e-3


def test_a_function_that_knows_two_estimates_only():
    """Each concept is evaluated by it in the base's place."""
    expected = gamma(estimate(MODEL, TARGET), estimate(MODEL, NEGATIVE))
    other = two_estimates(MODEL)
    assert tiny_models.relative(found_gamma(once(other), once(steered(other))), expected) < CLOSE
    editor = Editor()
    found, plain = (
        editor.run(*editor.build(3.0, 1.5, model=model), sigmas=STEP)
        for model in (two_estimates(editor.model), editor.model)
    )
    assert tiny_models.relative(found, plain) < CLOSE


def test_a_function_that_gives_another_number_is_named():
    model = MODEL.clone()
    model.set_model_sampler_calc_cond_batch_function(lambda args: [torch.zeros_like(args["input"])])
    with pytest.raises(ValueError, match=r"sampler_calc_cond_batch_function\) gave 1 for the 3 conditionings"):
        once(steered(model))


@pytest.mark.parametrize("make", [lambda m: steered(m), lambda m: load(m, ONE, 0.5, 0.3)], ids=["SEGA", "a slider"])
def test_a_run_whose_model_another_pack_replaces(make):
    """Added after ours it stands within our run: its clone is no second model."""
    plain = tiny_models.sample_cfg(make(MODEL), POSITIVE, NEGATIVE, CFG, START, tiny_models.schedule(MODEL, 3))
    for model in (swaps_the_model(make(MODEL)), make(swaps_the_model(MODEL))):
        found = tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, CFG, START, tiny_models.schedule(MODEL, 3))
        assert torch.equal(found, plain)


CACHED = {
    "EasyCache": lambda m: EasyCacheNode.execute(m, 1.0, 0.0, 1.0, False).args[0],
    "LazyCache": lambda m: LazyCacheNode.execute(m, 1.0, 0.0, 1.0, False).args[0],
    "TeaCache": tea_cache,
}


def inverted(model, samples):
    return edit_runs.invert(model, POSITIVE, samples, steps=6, denoise=0.8).inversion


USES = {
    "DDIM Invert": lambda m, bare, samples: inverted(m, samples).latents,
    "DiffEdit Mask": lambda m, bare, samples: edit_runs.find_mask(m, POSITIVE, TARGET, samples, maps=3),
    "DiffEdit Sampler": lambda m, bare, samples: [
        edit_runs.edit(
            m, TARGET, NEGATIVE, inverted(bare, samples), torch.ones(1, 64, 64) * (torch.arange(64) < 32), 3.0
        )
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(name, marks=beside(row)) for name, row in CACHES.items()])
@pytest.mark.parametrize("use", [pytest.param(use, marks=beside(feature=use)) for use in USES])
def test_inversion_mask_and_decode_ask_the_model_itself(name, use, caplog):
    """With a step cache on the model they have the bits of the model without it, and the MODEL keeps its cache."""
    model, samples = edit_runs.calm_unet(ModelType.EPS), tiny_models.noise(1, 4, 8, 8, seed=6)
    cached = CACHED[name](model)
    bare, skipping = (
        tiny_models.sample_cfg(m, POSITIVE, NEGATIVE, CFG, START, tiny_models.schedule(m, 12)) for m in (model, cached)
    )
    assert tiny_models.relative(skipping, bare) > 1e-3, "the cache answers in the network's place"
    before = tiny_models.state_of(cached)
    caplog.set_level("INFO")
    for found, expected in zip(USES[use](cached, model, samples), USES[use](model, model, samples), strict=True):
        assert torch.equal(found, expected)
    assert "without the step cache it carries" in caplog.text
    assert tiny_models.state_of(cached) == before


def batches(model, start=BATCH, cfg=3.0):
    return tiny_models.sample_cfg(model, FAMILY.positive, FAMILY.negative, cfg, start, tiny_models.schedule(model, 3))


class TestBatchesOfAnotherOrder:
    """Strengths travel with the conditionings, so that each entry has its own in whatever batch another pack makes."""

    @pytest.mark.parametrize("tiles", [1, 2, 4])
    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda m: load(m, ONE, 0.5, to="positive"), marks=beside(TILED, "slider"), id="the positive"),
            pytest.param(lambda m: sweep(m, ONE, "0.5, 0, -1"), marks=beside(TILED, "Slider Sweep"), id="a sweep"),
        ],
    )  # fmt: skip
    def test_tiles(self, make, tiles):
        """Tile by tile, each with all entries; the right value is a tile a call, where the order is the host's."""
        plain = batches(tiled_diffusion(FAMILY.model, 4, tiles))
        expected = batches(make(tiled_diffusion(FAMILY.model, 4, 1)))
        found = batches(make(tiled_diffusion(FAMILY.model, 4, tiles)))
        assert tiny_models.relative(expected, plain) > 1e-3
        assert tiny_models.relative(found, expected) < CLOSE

    @beside(TILED, "SEGA Guidance")
    @pytest.mark.parametrize("tiles", [1, 4])
    def test_tiled_concepts(self, tiles):
        """γ by hand, of estimates that are tiled alike."""
        tiled = tiled_diffusion(MODEL, 4, tiles)
        expected = gamma(estimate(tiled, TARGET), estimate(tiled, NEGATIVE))
        assert tiny_models.relative(found_gamma(once(tiled), once(steered(tiled))), expected) < CLOSE

    @beside(TILED, "Slider Sweep")
    def test_a_tiled_sweeps_pictures_are_its_strengths(self):
        """Each picture is that of the host's own loader, tiled alike."""
        found = batches(sweep(tiled_diffusion(FAMILY.model, 4, 4), ONE, "0.5, 0, -1"))
        for picture, strength in zip(found, (0.5, 0.0, -1.0), strict=True):
            alone = batches(tiled_diffusion(stock(FAMILY.model, (ONE, strength)), 4, 4), BATCH[:1])[0]
            assert tiny_models.relative(picture, alone) < CLOSE

    @pytest.mark.parametrize("strengths", ["0.5, 0, -1", "0.5, -1, 0.2"])
    def test_a_call_for_each_conditioning(self, strengths):
        plain = batches(sweep(FAMILY.model, ONE, strengths))
        assert tiny_models.relative(batches(sweep(one_by_one(FAMILY.model), ONE, strengths)), plain) < CLOSE

    def test_a_call_for_each_conditioning_with_a_slider_of_the_positive(self):
        plain, bare = batches(load(FAMILY.model, ONE, 0.5, to="positive")), batches(FAMILY.model)
        found = batches(load(one_by_one(FAMILY.model), ONE, 0.5, to="positive"))
        assert tiny_models.relative(plain, bare) > ACTS
        assert tiny_models.relative(found, plain) < CLOSE

    def test_entries_that_nobody_can_tell_apart_are_refused(self):
        """A model function that hands on half of a batch with all of its conditionings."""

        def halves(apply_model, args):
            x, t = args["input"], args["timestep"]
            half = len(x) // 2
            return torch.cat(
                [apply_model(x[:half], t[:half], **args["c"]), apply_model(x[half:], t[half:], **args["c"])]
            )

        model = sweep(FAMILY.model, ONE, "0.5, 0, -1")
        model.set_model_unet_function_wrapper(halves)
        with pytest.raises(ValueError, match=r"3 entries without the strengths .* sample each strength of a sweep"):
            batches(model)

    def test_the_network_is_given_nothing_new(self):
        calls = tiny_models.recorded(sweep(FAMILY.model, ONE, "0.5, 0, -1"))
        inside = []

        def note(executor, *args, **kwargs):
            inside.append(sorted(kwargs))
            return executor(*args, **kwargs)

        calls.model.add_wrapper_with_key("diffusion_model", "test", note)
        batches(calls.model)
        plain = tiny_models.recorded(FAMILY.model)
        names: list = []

        def note_plain(executor, *args, **kwargs):
            names.append(sorted(kwargs))
            return executor(*args, **kwargs)

        plain.model.add_wrapper_with_key("diffusion_model", "test", note_plain)
        batches(plain.model)
        assert inside == names


@pytest.mark.parametrize(
    "make",
    [
        lambda: steered(MODEL), lambda: load(MODEL, ONE, 0.5, 0.3), lambda: sweep(MODEL, ONE, "0.5, -1"),
        lambda: load(MODEL, ONE, 0.5, to="positive"), lambda: steered(load(MODEL, ONE, 0.5, 0.3)),
    ],
    ids=["SEGA", "a window", "a sweep", "the positive only", "both"],
)  # fmt: skip
def test_options_may_be_copied(make):
    """And the run is the same, to the bit."""
    model = make()
    start = START.repeat(2, 1, 1, 1)
    found, expected = (
        tiny_models.sample_cfg(m, POSITIVE, NEGATIVE, CFG, start, tiny_models.schedule(MODEL, 3))
        for m in (copies_options(model), model)
    )
    assert torch.equal(found, expected)


STUB = [tiny_models.stub_cond(seed) for seed in (1, 2, 3)]


def stub_term(guide, base: str = "auto") -> tuple[torch.Tensor, list]:
    """γ of a stub run of the guider that `guide` makes, and the state of the run."""
    model, runs = tiny_models.stub_model(), []
    sigmas, start = tiny_models.schedule(model), tiny_models.noise(1, *tiny_models.SIZE)
    edited = tiny_models.steer(model, tiny_models.concept(STUB[2], 2.0), base=base, started=runs.append)
    plain, found = (tiny_models.sample(guide(m), start, sigmas) for m in (model, edited))
    return tiny_models.added_term(plain, found, sigmas), runs


def from_base(base: list) -> torch.Tensor:
    return 2.0 * (tiny_models.eps_of(STUB[2]) - tiny_models.eps_of(base))


class TestCfg:
    """A guider's cfg may be a list, a tensor, nothing, or change in the middle of a run: a direction has one base."""

    @beside(SCHEDULED_CFG, "SEGA Guidance")
    @pytest.mark.parametrize(
        ("cfg", "base"),
        [
            ([4.0] * 5, 1), ([4.0, 4.0, 4.0, 1.0, 1.0], 1), ([1.0] * 5, 1), (4.0, 1), (1.0, 0),
            (torch.tensor(1.0), 0), (torch.tensor([4.0]), 1),
        ],
        ids=str,
    )  # fmt: skip
    def test_of_any_kind(self, cfg, base):
        def guide(model):
            guider = ScheduledCFGGuider(model)
            guider.set_conds(STUB[0], STUB[1])
            guider.set_cfg(cfg)
            return guider

        found, _ = stub_term(guide)
        torch.testing.assert_close(found, from_base(STUB[base]), rtol=1e-3, atol=1e-3)

    @beside(SCHEDULED_CFG, "SEGA Guidance")
    def test_steps_without_a_negative(self):
        """Beyond the guider's range its negative is not evaluated: the base is, beside the concept."""

        def guide(model):
            guider = ScheduledCFGGuider(model)
            guider.set_conds(STUB[0], STUB[1])
            guider.set_cfg(4.0, 0.0, 0.3)
            return guider

        found, _ = stub_term(guide)
        torch.testing.assert_close(found, from_base(STUB[1]), rtol=1e-3, atol=1e-3)

    def test_none_at_all(self):
        def guide(model):
            guider = ScheduledCFGGuider(model)
            guider.set_conds(STUB[0], STUB[1])
            guider.set_cfg([4.0] * 5)
            scheduled = guider.cfg
            predict = guider.predict_noise

            def with_its_own(*args, **kwargs):
                guider.cfg = scheduled
                try:
                    return predict(*args, **kwargs)
                finally:
                    guider.cfg = None

            guider.cfg, guider.predict_noise = None, with_its_own
            return guider

        found, _ = stub_term(guide)
        torch.testing.assert_close(found, from_base(STUB[1]), rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("inside", [False, True], ids=["before SEGA", "after SEGA"])
    def test_that_changes_in_the_run(self, inside):
        """CFGOverride to 1 from the middle on: the base stays, and the cost is that of what was evaluated."""
        model, runs = tiny_models.stub_model(), []
        sigmas, start = tiny_models.schedule(model), tiny_models.noise(1, *tiny_models.SIZE)

        def overridden(m):
            return CFGOverride.execute(m, 1.0, 0.5, 1.0).args[0]

        def edited(m):
            return tiny_models.steer(m, tiny_models.concept(STUB[2], 2.0), started=runs.append)

        calls = tiny_models.recorded(overridden(edited(model)) if inside else edited(overridden(model)))
        plain, found = (
            tiny_models.sample_cfg(m, STUB[0], STUB[1], 4.0, start, sigmas) for m in (overridden(model), calls.model)
        )
        torch.testing.assert_close(
            tiny_models.added_term(plain, found, sigmas), from_base(STUB[1]), rtol=1e-3, atol=1e-3
        )
        own = sum(
            2 if sigma > model.get_model_object("model_sampling").percent_to_sigma(0.5) else 1 for sigma in sigmas[:-1]
        )
        total = sum(call.batch for call in calls.seen)
        assert own < 2 * 5
        assert runs[-1].report.evaluations.own == own
        assert runs[-1].report.evaluations.own + runs[-1].report.evaluations.added == total


def test_evaluations_outside_a_window_count_too():
    """The cost is a share of the whole run's evaluations, also of a guider that makes its own calls."""
    runs: list = []
    model = tiny_models.stub_model()
    calls = tiny_models.recorded(tiny_models.steer(model, tiny_models.concept(STUB[2], start=0.5), started=runs.append))
    tiny_models.sample_cfg(calls.model, STUB[0], STUB[1], 4.0)
    found = runs[0].report.evaluations
    assert (found.own, found.own + found.added) == (2 * 5, sum(calls.batches))
