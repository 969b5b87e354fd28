"""InstructPix2Pix Guider computes what the authors' port computes, in one batched call, with SEGA on top."""

from __future__ import annotations

import math

import authors_unet
import comfy.samplers
import family_models
import node_helpers
import pytest
import tiny_models
import torch
from comfy_extras.nodes_custom_sampler import BasicGuider, CFGGuider, DualCFGGuider
from comfy_extras.nodes_ip2p import InstructPixToPixConditioning
from edits_by_hand import with_image_prompt
from instruct_runs import NEGATIVE, POSITIVE, TARGET, Editor, pictures, random_vae
from semantic_steering.nodes.instruct_pix2pix import InstructPix2PixGuider
from semantic_steering.nodes.sega import SEGAGuidance

from benchmarks import peers

CONCEPT = tiny_models.concept(TARGET, 2.0, 0.5)
ONE_STEP = torch.tensor([2.0, 0.0])


@pytest.fixture(scope="module")
def editor():
    return Editor()


@pytest.fixture(scope="module")
def reference(editor):
    return peers.InstructPix2Pix(authors_unet.reference_unet(editor.model))


def wired(editor: Editor, pixels: torch.Tensor) -> tuple:
    """The host's own wiring: positive and negative with the picture, and its latent."""
    return InstructPixToPixConditioning.execute(POSITIVE, NEGATIVE, pixels, editor.vae).args


class TestParity:
    @pytest.mark.parametrize(
        ("steps", "text_scale", "image_scale", "batch", "size"),
        [
            (8, 7.5, 1.5, 1, (64, 64)), (5, 3.0, 1.2, 2, (64, 96)), (10, 2.0, 4.0, 1, (128, 64)),
            (8, 5.0, 1.0, 1, (64, 64)),
        ],
    )  # fmt: skip
    def test_the_final_latents_are_diffusers(self, editor, steps, text_scale, image_scale, batch, size, reference):
        pixels = pictures(batch, *size, seed=steps)
        guider, latent = editor.build(text_scale, image_scale, pixels=pixels)
        start = tiny_models.noise(*latent["samples"].shape, seed=1)
        sigmas = tiny_models.schedule(editor.model, steps, "ddim_uniform")
        found = editor.internal(tiny_models.sample(guider, peers.start_noise(start, float(sigmas[0])), sigmas))
        image = editor.image(pixels)
        expected = reference(start, image, POSITIVE, NEGATIVE, steps, text_scale, image_scale)
        assert tiny_models.relative(found, expected) < 1e-4
        without = reference(start, torch.zeros_like(image), POSITIVE, NEGATIVE, steps, text_scale, image_scale)
        assert tiny_models.relative(without, expected) > 0.01, (
            "the picture must matter for the comparison to mean anything"
        )

    @pytest.mark.parametrize("scales", [(7.5, 1.5), (3.0, 0.5), (1.0, 1.5), (0.0, 2.0)])
    def test_it_is_the_hosts_dual_cfg_wired_by_hand(self, editor, scales):
        pixels = pictures(2)
        positive, negative, latent = wired(editor, pixels)
        (guider,) = DualCFGGuider.execute(editor.model, positive, negative, NEGATIVE, *scales, "regular").args
        expected = editor.run(guider, latent)
        assert tiny_models.relative(editor.edit(*scales, pixels=pixels), expected) < 1e-4
        (plain,) = CFGGuider.execute(editor.model, positive, negative, scales[0]).args
        assert tiny_models.relative(editor.run(plain, latent), expected) > 0.01  # the image scale that wiring lacks


class TestScales:
    @pytest.mark.parametrize("scales", [(7.5, 1.5), (0.0, 0.0), (3.0, 4.0), (2.0, 0.5)])
    def test_one_step_is_linear_in_both(self, editor, scales):
        def end(*values: float) -> torch.Tensor:
            return editor.run(*editor.build(*values), sigmas=ONE_STEP).double()

        origin = end(1.0, 1.0)
        text, image = end(2.0, 1.0) - origin, end(1.0, 2.0) - origin
        assert tiny_models.relative(origin + text, origin) > 0.01
        assert tiny_models.relative(origin + image, origin) > 0.01
        expected = origin + (scales[0] - 1) * text + (scales[1] - 1) * image
        assert tiny_models.relative(end(*scales), expected) < 1e-4

    def test_both_at_1_are_the_plain_conditional_result(self, editor):
        positive, _, latent = wired(editor, pictures())
        (basic,) = BasicGuider.execute(editor.model, positive).args
        assert torch.equal(editor.edit(1.0, 1.0), editor.run(basic, latent))

    @pytest.mark.parametrize("text_scale", [0.0, 3.0])
    def test_an_image_scale_of_1_is_the_hosts_cfg_guider(self, editor, text_scale):
        positive, negative, latent = wired(editor, pictures())
        (guider,) = CFGGuider.execute(editor.model, positive, negative, text_scale).args
        assert torch.equal(editor.edit(text_scale, 1.0), editor.run(guider, latent))


class TestOneBatchedForward:
    @pytest.mark.parametrize("batch", [1, 2])
    @pytest.mark.parametrize("concepts", [(), (CONCEPT,), (CONCEPT, CONCEPT)])
    @pytest.mark.parametrize(("scales", "own"), [((3.0, 1.5), 3), ((1.0, 1.5), 3), ((3.0, 1.0), 2), ((1.0, 1.0), 1)])
    def test_every_step_is_one_call(self, editor, scales, own, concepts, batch):
        calls = tiny_models.recorded(editor.model)
        editor.edit(*scales, concepts, pictures(batch), calls.model)
        assert calls.batches == [batch * (own + len(concepts))] * 4

    def test_which_text_and_picture_each_part_sees(self, editor):
        """The concept has the picture, and so has the base of its direction, at index 1; only the third has not."""
        calls = tiny_models.recorded(editor.model)
        editor.edit(concepts=(CONCEPT,), model=calls.model)
        (image,) = editor.image()
        assert image.abs().max() > 0.1
        expected = {0: (POSITIVE, image), 1: (NEGATIVE, image), 2: (NEGATIVE, 0 * image), 3: (TARGET, image)}
        for call in calls.seen:
            assert sorted(call.conds) == [0, 1, 2, 3]
            for chunk, cond in enumerate(call.conds):
                text, picture = expected[cond]
                assert torch.equal(call.context[chunk], text[0][0][0])
                assert torch.equal(call.extra["c_concat"][chunk], picture)

    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("count", [0, 1, 2])
    @pytest.mark.parametrize("image_scale", [1.0, 1.5])
    def test_the_memory_estimate_counts_what_is_evaluated(self, editor, image_scale, count, batch, monkeypatch):
        asked = []
        original = editor.model.model.memory_required

        def note(input_shape, cond_shapes=None):
            asked.append(input_shape[0])
            return original(input_shape, cond_shapes=cond_shapes or {})

        monkeypatch.setattr(editor.model.model, "memory_required", note)
        editor.edit(3.0, image_scale, (CONCEPT,) * count, pictures(batch))
        added = count + (image_scale != 1.0)
        assert asked[0] == 2 * (batch + math.ceil(batch * added / 2))  # the host doubles what it is given


class TestConcepts:
    NEUTRAL = {  # noqa: RUF012
        "no concepts": (), "scale 0": (tiny_models.concept(TARGET, 0.0),),
        "empty window": (tiny_models.concept(TARGET, start=0.4, end=0.4),),
        "mask of zeros": (tiny_models.concept(TARGET, mask=torch.zeros(1, 64, 64)),),
    }  # fmt: skip

    @pytest.mark.parametrize("name", NEUTRAL)
    def test_neutral_ones_change_no_bit(self, editor, name):
        plain = editor.edit()
        assert torch.equal(editor.edit(concepts=self.NEUTRAL[name]), plain)
        assert tiny_models.relative(editor.edit(concepts=(CONCEPT,)), plain) > 0.01

    @pytest.mark.parametrize(("text_scale", "base"), [(3.0, NEGATIVE), (1.0, POSITIVE)])
    def test_a_direction_starts_from_an_estimate_with_the_picture(self, editor, text_scale, base):
        """γ = s·(e(c_I, concept) − e(c_I, base)), evaluated here by the host's own guidance without text scale."""

        def alone(conditioning: list) -> torch.Tensor:
            pictured, _, latent = InstructPixToPixConditioning.execute(
                conditioning, NEGATIVE, pictures(), editor.vae
            ).args
            (guider,) = BasicGuider.execute(editor.model, pictured).args
            return editor.internal(editor.run(guider, latent, ONE_STEP))

        plain, steered = (
            editor.internal(editor.run(*editor.build(text_scale, 1.5, concepts), sigmas=ONE_STEP))
            for concepts in ((), (tiny_models.concept(TARGET, 2.0),))
        )
        expected = 2.0 * (alone(TARGET) - alone(base))  # Δx0 = −σ·Δe on both sides
        assert tiny_models.relative(steered - plain, expected) < 1e-3
        assert tiny_models.relative(expected, plain) > 1e-3

    def test_sega_guidance_before_the_guider_is_the_same(self, editor):
        (steered,) = SEGAGuidance.execute(editor.model, (CONCEPT,)).args
        assert torch.equal(editor.edit(model=steered), editor.edit(concepts=(CONCEPT,)))

    def test_the_same_twice_and_nothing_left_on_the_model(self, editor):
        before = tiny_models.state_of(editor.model)
        guider, latent = editor.build(concepts=(CONCEPT,))
        first = editor.run(guider, latent)
        assert not torch.equal(editor.run(guider, latent, seed=4), first)
        assert torch.equal(editor.run(guider, latent), first)
        assert tiny_models.state_of(editor.model) == before


class TestOtherPacks:
    def test_patches_of_the_guidance_see_the_texts_part(self, editor):
        model, seen = editor.model.clone(), {"pre": [], "post": []}

        def pre(args):
            seen["pre"].append((len(args["conds"]), len(args["conds_out"])))
            return args["conds_out"]

        def post(args):
            expected = args["uncond_denoised"] + 3.0 * (args["cond_denoised"] - args["uncond_denoised"])
            seen["post"].append(tiny_models.relative(args["denoised"], expected))
            return args["denoised"] * 0.9

        model.set_model_sampler_pre_cfg_function(pre)
        model.set_model_sampler_post_cfg_function(post)
        for concepts in ((), (CONCEPT,)):
            patched = editor.edit(concepts=concepts, model=model)
            assert tiny_models.relative(patched, editor.edit(concepts=concepts)) > 0.01
        assert seen["pre"] == [(2, 2)] * 8
        assert max(seen["post"]) < 1e-5
        assert len(seen["post"]) == 8

    @pytest.mark.parametrize("image_scale", [1.0, 1.5])
    def test_an_image_prompt_sees_its_two_places_only(self, editor, image_scale):
        model, patch = with_image_prompt(editor.model)
        plain = editor.edit(image_scale=image_scale, model=model)
        steered = editor.edit(image_scale=image_scale, model=model, concepts=(CONCEPT,))
        assert set(map(tuple, patch.seen)) <= {(1, 0), (0,), (1,)}
        assert tiny_models.relative(plain, editor.edit(image_scale=image_scale)) > 0.01
        assert tiny_models.relative(steered, plain) > 0.01

    def test_beside_an_image_prompt_only_the_picture_tells_the_third_from_the_negative(self, editor):
        """Both have the tokens of the negative's place."""
        model, patch = with_image_prompt(editor.model)
        without, guided = (
            editor.internal(editor.run(*editor.build(3.0, scale, model=model), sigmas=ONE_STEP)) for scale in (1.0, 1.5)
        )
        alone, patch_alone = with_image_prompt(editor.model)
        patch_alone.tokens[0] = patch.tokens[1]

        def negative(image: torch.Tensor) -> torch.Tensor:
            conditioning = node_helpers.conditioning_set_values(NEGATIVE, {"concat_latent_image": image})
            (guider,) = BasicGuider.execute(alone, conditioning).args
            return editor.internal(editor.run(guider, {"samples": torch.zeros_like(image)}, ONE_STEP))

        image = editor.image()
        expected = 0.5 * (negative(image) - negative(torch.zeros_like(image)))
        assert tiny_models.relative(guided - without, expected) < 1e-3
        assert tiny_models.relative(expected, without) > 1e-3

    def test_a_calc_cond_batch_function_still_runs(self, editor):
        model, seen = editor.model.clone(), []

        def other_pack(args):
            seen.append(len(args["conds"]))
            return comfy.samplers.calc_cond_batch(
                args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
            )

        model.set_model_sampler_calc_cond_batch_function(other_pack)
        assert torch.equal(editor.edit(model=model), editor.edit())
        assert torch.equal(editor.edit(concepts=(CONCEPT,), model=model), editor.edit(concepts=(CONCEPT,)))
        assert seen == [3] * 4 + [4] * 4


class TestPictures:
    def test_a_batch_is_its_pictures_alone(self, editor):
        pixels = pictures(3, 64, 48)
        sigmas, start = tiny_models.schedule(editor.model, 4), tiny_models.noise(3, 4, 8, 6)
        guider, latent = editor.build(concepts=(tiny_models.concept(TARGET, 2.0),), pixels=pixels)
        assert latent["samples"].shape == start.shape
        together = tiny_models.sample(guider, start, sigmas)
        for i in range(3):
            guider, _ = editor.build(concepts=(tiny_models.concept(TARGET, 2.0),), pixels=pixels[i : i + 1])
            assert (
                tiny_models.relative(together[i : i + 1], tiny_models.sample(guider, start[i : i + 1], sigmas)) < 1e-4
            )

    @pytest.mark.parametrize(("height", "width", "cells"), [(71, 77, (8, 9)), (8, 15, (1, 1)), (64, 65, (8, 8))])
    def test_other_sizes_are_cropped_as_the_host_does(self, editor, height, width, cells):
        pixels = pictures(1, height, width)
        guider, latent = editor.build(pixels=pixels)
        positive, _, expected = wired(editor, pixels)
        assert latent["samples"].shape == expected["samples"].shape == (1, 4, *cells)
        assert not latent["samples"].any()
        found = guider.original_conds["positive"][0]["concat_latent_image"]
        assert torch.equal(found, positive[0][1]["concat_latent_image"])
        assert not found.requires_grad

    def test_transparency_is_left_out(self, editor):
        with_alpha = torch.cat([pictures(), torch.rand(1, 64, 64, 1)], -1)
        assert torch.equal(editor.edit(pixels=with_alpha), editor.edit())

    def test_a_picture_that_the_texts_carry_already_is_replaced(self, editor):
        positive, negative, _ = wired(editor, pictures(seed=7))
        assert torch.equal(editor.edit(positive=positive, negative=negative), editor.edit())
        assert "concat_latent_image" not in NEGATIVE[0][1]  # what was given is left alone

    @pytest.mark.parametrize(("cosxl", "factor"), [(False, 1.0), (True, 0.13025)])
    def test_sdxl_takes_the_picture_as_its_class_wants_it(self, editor, cosxl, factor):
        family = family_models.sdxl_instruct_pix2pix(cosxl)
        calls = tiny_models.recorded(family.model)
        guider, latent = editor.build(model=calls.model, positive=family.positive, negative=family.negative)
        out = editor.run(guider, latent, tiny_models.schedule(family.model, 2))
        assert out.isfinite().all()
        (image,) = editor.image()
        for chunk, cond in enumerate(calls.seen[0].conds):
            expected = factor * image if cond < 2 else torch.zeros_like(image)
            torch.testing.assert_close(calls.seen[0].extra["c_concat"][chunk], expected)


class TestBadInput:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
    @pytest.mark.parametrize("name", ["text_scale", "image_scale"])
    def test_scales(self, editor, name, value):
        with pytest.raises(ValueError, match=rf"{name} is {value}; it must be a number of 0 or more \(usually"):
            editor.build(**{name: value})

    @pytest.mark.parametrize("family", [family_models.sd, family_models.sdxl, family_models.flux])
    def test_a_model_of_another_kind(self, editor, family):
        with pytest.raises(ValueError, match=r"model is \w+, which was not trained .* connect an InstructPix2Pix"):
            editor.build(model=family().model)

    def test_no_vae(self, editor, monkeypatch):
        with pytest.raises(ValueError, match=r"vae is missing: .* connect a Load VAE"):
            InstructPix2PixGuider.execute(editor.model, POSITIVE, NEGATIVE, None, pictures())
        monkeypatch.setattr(editor.vae, "first_stage_model", None)  # a checkpoint without one
        with pytest.raises(ValueError, match="vae is missing"):
            editor.build()

    def test_another_familys_vae(self, editor):
        flux = random_vae(16)
        with pytest.raises(
            ValueError, match=r"vae makes latents of 16 channels, this model's have 4: .* Connect the VAE"
        ):
            InstructPix2PixGuider.execute(editor.model, POSITIVE, NEGATIVE, flux, pictures())

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_pixels_that_are_no_numbers(self, editor, value):
        pixels = pictures()
        pixels[0, 3, 5, 1] = value
        with pytest.raises(ValueError, match="pixels holds NaN or infinite values; the picture before it is broken"):
            editor.build(pixels=pixels)

    def test_pixels_too_small_for_a_latent_cell(self, editor):
        with pytest.raises(ValueError, match=r"pixels is 7x64; at least 8x8 is needed. Connect a larger picture"):
            editor.build(pixels=pictures(1, 64, 7))

    def test_texts(self, editor):
        with pytest.raises(ValueError, match="positive is empty; connect a CLIP Text Encode"):
            editor.build(positive=[])
        with pytest.raises(ValueError, match="negative has 20 text features, positive has 16"):
            editor.build(negative=[[torch.ones(1, 8, 20), {}]])

    def test_it_is_refused_before_any_work(self, editor, monkeypatch):
        def never(*args):
            raise AssertionError("the picture was encoded")

        monkeypatch.setattr(editor.vae, "encode", never)
        for options in ({"text_scale": math.nan}, {"positive": []}, {"model": family_models.sd().model}):
            with pytest.raises(ValueError, match=next(iter(options))):
                editor.build(**options)
        with pytest.raises(AssertionError, match="the picture was encoded"):
            editor.build()
