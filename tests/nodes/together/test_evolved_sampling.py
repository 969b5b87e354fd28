"""Beside AnimateDiff-Evolved's Use Evolved Sampling, with contexts and motion: what each node must give, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import edit_runs
import pytest
import tiny_models
import torch
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from edits_by_hand import (
    ACTS,
    CFG,
    CLOSE,
    MODEL,
    NEGATIVE,
    POSITIVE,
    STEP,
    TARGET,
    chain,
    found_gamma,
    gamma,
    once,
    steered,
)  # fmt: skip
from instruct_runs import Editor, pictures
from other_packs import EVOLVED, EvolvedSettings, beside, evolved_sampling
from semantic_steering.nodes.host.editing.diffedit import estimate_difference, level_of
from semantic_steering.nodes.host.run.ksampler import ksample
from semantic_steering.nodes.sega import SEGASampler
from slider_runs import FAMILY, ONE, by_hand, load, sigma, stock, sweep

pytestmark = beside(EVOLVED)
FRAMES = tiny_models.noise(5, 4, 8, 8)
KINDS = pytest.mark.parametrize(("length", "motion"), [(3, 0.0), (9, 0.3), (3, 0.3)],
                                  ids=["contexts", "motion", "both"])  # fmt: skip


class TestEvolvedSampling:
    """AnimateDiff-Evolved: its guidance asks past the slot for estimates, and only there are its contexts ready."""

    @beside(feature="SEGA Guidance")
    @KINDS
    @pytest.mark.parametrize("outside", [False, True], ids=["behind it", "before it"])
    def test_sega(self, length, motion, outside):
        """γ by hand, of estimates that its guidance makes in runs of their own; positive, negative and concept are one
        call for each context."""

        def frames(model, positive=POSITIVE, negative=NEGATIVE, cfg=CFG):
            return tiny_models.sample_cfg(model, positive, negative, cfg, FRAMES, STEP)

        evolved = evolved_sampling(MODEL, length, motion)
        model = evolved_sampling(steered(MODEL), length, motion) if outside else steered(evolved)
        expected = gamma(frames(evolved, TARGET, None, 1.0), frames(evolved, NEGATIVE, None, 1.0))
        calls = tiny_models.recorded(model)
        found = found_gamma(frames(evolved), frames(calls.model))
        assert tiny_models.relative(found, expected) < CLOSE
        assert calls.batches == ([3 * 3, 3 * 3] if length == 3 else [3 * 5])

    @beside(feature="SEGA Guidance")
    def test_concepts_of_several_nodes(self):
        expected, found = (
            found_gamma(one(MODEL), one(steered(steered(MODEL), chain(tiny_models.unet_cond(9)))))
            for one in (
                lambda m: tiny_models.sample_cfg(m, POSITIVE, NEGATIVE, CFG, FRAMES, STEP),
                lambda m: tiny_models.sample_cfg(evolved_sampling(m, 3), POSITIVE, NEGATIVE, CFG, FRAMES, STEP),
            )
        )
        assert tiny_models.relative(found, expected) < CLOSE

    @beside(feature="SEGA Sampler")
    def test_sega_sampler(self):
        evolved, latent = evolved_sampling(MODEL, 3, 0.3), {"samples": torch.zeros_like(FRAMES)}
        run = (5, 3, CFG, "euler", "normal", POSITIVE, NEGATIVE, latent)
        found = SEGASampler.execute(evolved, *run, concepts=chain()).args[0]["samples"]
        assert torch.equal(found, ksample(steered(evolved), *run, 1.0)["samples"])
        assert tiny_models.relative(found, ksample(evolved, *run, 1.0)["samples"]) > ACTS

    @beside(feature="InstructPix2Pix")
    @pytest.mark.parametrize("concepts", [None, chain(tiny_models.unet_cond(3, tokens=8))], ids=["alone", "with SEGA"])
    def test_the_pictures_guidance(self, concepts):
        """Contexts without motion change no picture, so that it is the guider's without them."""
        editor = Editor()
        plain, found = (
            editor.edit(3.0, 1.5, concepts, pictures(5), model)
            for model in (editor.model, evolved_sampling(editor.model, 3))
        )
        assert tiny_models.relative(found, plain) < CLOSE

    @beside(feature="DiffEdit Mask")
    @KINDS
    def test_mask(self, length, motion):
        """The mean over noises of how much its own estimates differ, each in a run of its own."""
        evolved = evolved_sampling(MODEL, length, motion)
        found = estimate_difference(evolved, POSITIVE, TARGET, FRAMES, 0.5, 2, 7)
        level, noises = level_of(evolved, 0.5), torch.Generator().manual_seed(7)
        expected = torch.zeros_like(found)
        for _ in range(2):
            x = FRAMES + level * torch.randn(1, 4, 8, 8, generator=noises)
            source, target = (
                tiny_models.sample_cfg(evolved, cond, None, 1.0, x / level, torch.tensor([level, 0.0]))
                for cond in (POSITIVE, TARGET)
            )
            expected += ((source - target) / level).abs().mean(1) / 2
        assert tiny_models.relative(found, expected) < CLOSE

    @beside(feature="DDIM Invert")
    def test_inversion(self):
        """Inverted and decoded by its own guidance the frames come back."""
        evolved = evolved_sampling(edit_runs.calm_unet(ModelType.EPS), 3, 0.3)
        found = edit_runs.invert(evolved, POSITIVE, FRAMES, steps=12, denoise=0.8)
        assert edit_runs.psnr(edit_runs.decode(evolved, POSITIVE, found, FRAMES), FRAMES) > 60

    @beside(feature="DiffEdit Sampler")
    def test_masked_decode(self):
        """With the inversion's prompt and cfg the frames come back; with others they change, inside the mask."""
        evolved = evolved_sampling(edit_runs.calm_unet(ModelType.EPS), 3, 0.3)
        inversion = edit_runs.invert(evolved, POSITIVE, FRAMES, steps=12, denoise=0.8).inversion
        half = torch.ones(1, 64, 64) * (torch.arange(64) < 32)
        assert edit_runs.psnr(edit_runs.edit(evolved, POSITIVE, NEGATIVE, inversion, half, 1.0), FRAMES) > 60
        edited = edit_runs.edit(evolved, TARGET, NEGATIVE, inversion, half, 3.0)
        assert torch.equal(edited[..., 4:], FRAMES[..., 4:])
        assert tiny_models.relative(edited[..., :4], FRAMES[..., :4]) > ACTS

    @beside(feature="slider")
    @KINDS
    @pytest.mark.parametrize("outside", [False, True], ids=["behind it", "before it"])
    def test_a_sliders_window(self, length, motion, outside):
        with_it, without = (
            evolved_sampling(m, length, motion) for m in (stock(FAMILY.model, (ONE, 0.5)), FAMILY.model)
        )
        expected = by_hand(FAMILY, lambda level: with_it if level <= sigma(0.3) else without, FRAMES)
        model = (
            evolved_sampling(load(FAMILY.model, ONE, 0.5, 0.3), length, motion)
            if outside
            else load(without, ONE, 0.5, 0.3)
        )
        assert tiny_models.relative(FAMILY.sample(model, FRAMES), expected) < CLOSE

    @beside(feature="Slider Sweep")
    def test_a_sweep(self):
        """Contexts without motion: each frame is that of the host's own loader."""
        found = FAMILY.sample(evolved_sampling(sweep(FAMILY.model, ONE, "0.5, 0, -1, 0.2, -0.4"), 3), FRAMES)
        for i, strength in enumerate((0.5, 0.0, -1.0, 0.2, -0.4)):
            alone = FAMILY.sample(stock(FAMILY.model, (ONE, strength)), FRAMES[i : i + 1])[0]
            assert tiny_models.relative(found[i], alone) < CLOSE

    @beside(feature="slider")
    def test_a_slider_of_the_positive(self):
        expected = FAMILY.sample(load(FAMILY.model, ONE, 0.5, to="positive"), FRAMES)
        found = FAMILY.sample(load(evolved_sampling(FAMILY.model, 3), ONE, 0.5, to="positive"), FRAMES)
        assert tiny_models.relative(found, expected) < CLOSE

    def test_a_motion_model_with_a_picture_is_refused(self):
        """PIA, FancyVideo: their picture is put beside positive and negative alone."""
        evolved = evolved_sampling(MODEL, 3)
        motion = torch.nn.Module()
        motion.conv_in = torch.nn.Conv2d(9, 4, 3)
        evolved.set_additional_models("ADE", [ModelPatcher(motion, tiny_models.CPU, tiny_models.CPU)])
        with pytest.raises(ValueError, match=r"SEGA .* PIA or FancyVideo motion model .*Use Evolved Sampling"):
            once(steered(evolved))
        with pytest.raises(ValueError, match=r"DiffEdit Mask cannot act beside the PIA or FancyVideo"):
            edit_runs.find_mask(evolved, POSITIVE, TARGET, FRAMES)

    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            (r"iteration_opts \(FreeInit\)", EvolvedSettings(iteration_opts=SimpleNamespace(iterations=2))),
            ("image_inject", EvolvedSettings(image_injection=SimpleNamespace(is_empty=lambda: False))),
        ],
        ids=["FreeInit", "injected pictures"],
    )  # fmt: skip
    def test_runs_that_are_sampled_more_than_once_are_refused(self, name, settings):
        found = edit_runs.invert(MODEL, POSITIVE, FRAMES[:1], steps=2, method="ddim").inversion
        repeated = evolved_sampling(MODEL, 3, settings=settings)
        for use in (
            lambda: edit_runs.invert(repeated, POSITIVE, FRAMES),
            lambda: edit_runs.find_mask(repeated, POSITIVE, TARGET, FRAMES),
            lambda: edit_runs.edit(repeated, TARGET, NEGATIVE, found, torch.ones(1, 64, 64)),
        ):
            with pytest.raises(ValueError, match=f"sampled more than once: .* sample_settings with {name}"):
                use()
