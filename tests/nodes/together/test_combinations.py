"""SEGA beside what users put around a sampler: control, regions, LoRAs, image prompts, CFG++ samplers, crops."""

from __future__ import annotations

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ops
import folder_paths
import pytest
import safetensors.torch
import tiny_models
import torch
from comfy_extras.nodes_nag import NAGuidance
from edit_runs import find_mask
from edits_by_hand import (
    ACTS,
    CFG,
    CLOSE,
    MODEL,
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    SCALE,
    STEP,
    TARGET,
    assert_beside,
    chain,
    compat,
    estimate,
    found_gamma,
    gamma,
    once,
    run,
    steered,
    with_image_prompt,
)
from slider_runs import FAMILY, ONE, START, TWO, by_hand, load, stock, sweep
from slider_runs import sigma as edge

from nodes import (
    ConditioningCombine,
    ConditioningSetArea,
    ConditioningSetMask,
    ControlNetApply,
    ControlNetApplyAdvanced,
    LatentComposite,
    LatentCrop,
    LoraLoaderModelOnly,
    SetLatentNoiseMask,
    common_ksampler,
)

pytestmark = pytest.mark.slow

IMAGE_PROMPTS = "IP-Adapter, InstantID, PuLID (attention patches)"


class TestImagePrompts:
    """Such patches know two places, 0 and 1; a third is an IndexError in all the packs that do it like this."""

    @compat(IMAGE_PROMPTS)
    def test_beside(self):
        assert_beside(with_image_prompt(MODEL)[0], run(MODEL))

    @compat(IMAGE_PROMPTS)
    @pytest.mark.parametrize("base", ["negative", "positive"])
    def test_the_picture_is_no_part_of_the_direction(self, base):
        """Concept and base have the same tokens: those of the base's place."""
        model, patch = with_image_prompt(MODEL)
        plain = once(model)
        patch.seen.clear()
        found = found_gamma(plain, once(steered(model, base=base)))
        place = ["positive", "negative"].index(base)
        assert patch.seen == [[1, 0], [place]]
        alone, patch_alone = with_image_prompt(MODEL)
        patch_alone.tokens[0] = patch.tokens[place]
        expected = gamma(estimate(alone, TARGET), estimate(alone, [POSITIVE, NEGATIVE][place]))
        assert tiny_models.relative(found, expected) < CLOSE

    @compat(IMAGE_PROMPTS)
    def test_several_concepts_and_a_base_of_their_own(self):
        """The negative is limited, so the base is a copy, in the negative's place like the concepts."""
        model, patch = with_image_prompt(MODEL)
        limited = [[NEGATIVE[0][0], {"start_percent": 0.0, "end_percent": 0.2}]]
        second = tiny_models.unet_cond(4)
        steers = steered(model, chain(second, concepts=chain()))
        plain = once(model, negative=limited)
        patch.seen.clear()
        found = found_gamma(plain, once(steers, negative=limited))
        assert patch.seen == [[0], [1], [1], [1]]
        alone, patch_alone = with_image_prompt(MODEL)
        patch_alone.tokens[0] = patch.tokens[1]
        base = estimate(alone, NEGATIVE)
        expected = gamma(estimate(alone, TARGET), base) + gamma(estimate(alone, second), base)
        assert tiny_models.relative(found, expected) < CLOSE

    @compat(IMAGE_PROMPTS, "DiffEdit Mask")
    def test_a_mask_compares_source_and_target_under_the_same_picture(self):
        """The source is a positive too: with the negative's tokens the mask would show the image prompt."""
        same, patch = with_image_prompt(MODEL)
        patch.tokens[1] = patch.tokens[0]
        assert torch.equal(heatmap(with_image_prompt(MODEL)[0]), heatmap(same))
        assert tiny_models.relative(heatmap(same), heatmap(MODEL)) > ACTS

    @compat("Normalized Attention Guidance", "DiffEdit Mask")
    def test_a_mask_without_nag(self):
        """It takes the source for the negative of the target, where both are in one pass."""
        guided = NAGuidance.execute(MODEL, 5.0, 0.5, 2.5).args[0]
        assert tiny_models.relative(heatmap(guided), heatmap(MODEL)) < CLOSE


def heatmap(model):
    return find_mask(model, POSITIVE, TARGET, tiny_models.noise(1, 4, 8, 8, seed=8), maps=2)[1]


def real_controlnet():
    """A ControlNet of the host's own class, small and random."""
    settings = {
        key: value for key, value in tiny_models.UNET.items() if key not in ("out_channels", "transformer_depth_output")
    }
    network = comfy.cldm.cldm.ControlNet(
        **settings, num_heads=2, hint_channels=3, operations=comfy.ops.disable_weight_init, device=tiny_models.CPU
    )
    for i, parameter in enumerate(network.parameters()):
        parameter.data.copy_(0.1 * tiny_models.noise(*parameter.shape, seed=i))
    return comfy.controlnet.ControlNet(network, load_device=tiny_models.CPU)


class TestControlNet:
    pytestmark = [compat("ControlNet")]  # noqa: RUF012
    picture = tiny_models.noise(1, 64, 64, 3, seed=9).abs().clamp(0, 1)

    def applied(self, network, conditioning=POSITIVE):
        return ControlNetApply().apply_controlnet(conditioning, network, self.picture, 1.0)[0]

    def applied_to_both(self, network, start=0.0, end=1.0):
        return ControlNetApplyAdvanced().apply_controlnet(POSITIVE, NEGATIVE, network, self.picture, 1.0, start, end)

    def test_beside(self):
        positive, negative = self.applied_to_both(real_controlnet())
        assert_beside(MODEL, run(MODEL), positive=positive, negative=negative)

    def test_one_pass_of_the_controlnet_serves_the_concept_too(self):
        network = real_controlnet()
        rows = []
        network.control_model.register_forward_hook(
            lambda module, args, kwargs, out: rows.append(len(kwargs["x"])), with_kwargs=True
        )
        positive = self.applied(network)
        found = found_gamma(once(MODEL, positive), once(steered(MODEL), positive))
        assert rows == [2, 3]
        expected = gamma(*(estimate(MODEL, self.applied(network, words)) for words in (TARGET, NEGATIVE)))
        assert tiny_models.relative(found, expected) < CLOSE
        assert tiny_models.relative(expected, gamma(estimate(MODEL, TARGET), estimate(MODEL, NEGATIVE))) > ACTS

    def test_the_advanced_nodes_too(self):
        """It gives positive and negative the same copy: one pass for all."""
        calls = tiny_models.recorded(steered(MODEL))
        once(calls.model, *self.applied_to_both(real_controlnet()))
        assert [call.conds for call in calls.seen] == [[2, 1, 0]]
        assert calls.seen[0].control is not None

    def test_a_control_that_ends_ends_for_the_concept_too(self):
        positive, negative = self.applied_to_both(real_controlnet(), 0.0, 0.2)  # σ = 2 lies behind it
        found = found_gamma(once(MODEL, positive, negative), once(steered(MODEL), positive, negative))
        expected = gamma(estimate(MODEL, TARGET), estimate(MODEL, NEGATIVE))
        assert tiny_models.relative(found, expected) < CLOSE


class TestRegions:
    """A second prompt for the left half, beside one for the whole picture."""

    left = torch.cat([torch.ones(1, 64, 32), torch.zeros(1, 64, 32)], 2)
    second = tiny_models.unet_cond(5)

    def area(self, conditioning):
        return ConditioningSetArea().append(conditioning, 64, 64, 64, 0, 1.0)[0]

    def masked(self, conditioning, bounds="default"):
        return ConditioningSetMask().append(conditioning, self.left, bounds, 1.0)[0]

    @compat("Area conditioning")
    def test_areas(self):
        """The host gives negative and concept a copy for the area and averages it in; both have it, so it cancels."""
        start = tiny_models.noise(1, 4, 8, 16)

        def x0(model, positive, negative=NEGATIVE, cfg=CFG):
            return tiny_models.sample_cfg(model, positive, negative, cfg, start, STEP)

        positive = ConditioningCombine().combine(POSITIVE, self.area(self.second))[0]
        plain, edited = x0(MODEL, positive), x0(steered(MODEL), positive)
        assert tiny_models.relative(plain, x0(MODEL, POSITIVE)) > ACTS
        assert torch.equal(x0(steered(MODEL, NEUTRAL), positive), plain)
        concept, base = (
            x0(MODEL, ConditioningCombine().combine(words, self.area(words))[0], None, 1.0)
            for words in (TARGET, NEGATIVE)
        )
        assert tiny_models.relative(found_gamma(plain, edited), gamma(concept, base)) < CLOSE

    @compat("Mask conditioning")
    def test_masks(self):
        """A mask on a prompt is no limit of the concepts: they act on the whole picture."""
        positive = ConditioningCombine().combine(POSITIVE, self.masked(self.second))[0]
        assert_beside(MODEL, run(MODEL), positive=positive)
        found = found_gamma(once(MODEL, positive), once(steered(MODEL), positive))
        assert tiny_models.relative(found, gamma(estimate(MODEL, TARGET), estimate(MODEL, NEGATIVE))) < CLOSE
        assert found[..., 4:].any() and found[..., :4].any()

    @compat("Mask conditioning")
    def test_a_masked_concept_acts_inside_its_mask_only(self):
        only_left = steered(MODEL, chain(self.masked(TARGET), threshold=0.0))
        found = found_gamma(once(MODEL), once(only_left))
        whole = SCALE * (estimate(MODEL, NEGATIVE) - estimate(MODEL, TARGET)) / STEP[0]
        assert not found[..., 4:].any()
        assert tiny_models.relative(found[..., :4], whole[..., :4]) < CLOSE


class TestLoRA:
    @pytest.fixture
    def with_lora(self, tmp_path, monkeypatch):
        """A MODEL behind the host's LoraLoaderModelOnly."""
        safetensors.torch.save_file(TWO, tmp_path / "style.safetensors")
        monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
        return lambda model: LoraLoaderModelOnly().load_lora_model_only(model, "style.safetensors", 0.5)[0]

    @compat("LoRA")
    def test_sega(self, with_lora):
        model = with_lora(MODEL)
        assert_beside(model, run(MODEL))
        assert torch.equal(run(with_lora(steered(MODEL))), run(steered(model)))
        found = found_gamma(once(model), once(steered(model)))
        assert tiny_models.relative(found, gamma(estimate(model, TARGET), estimate(model, NEGATIVE))) < CLOSE

    @compat("LoRA", "slider")
    def test_a_slider_changes_the_weights_that_the_lora_left(self, with_lora):
        model = with_lora(FAMILY.model)
        both = stock(model, (ONE, 0.5))
        expected = by_hand(FAMILY, lambda sigma: both if sigma <= edge(0.3) else model, START, 4)
        for slider in (load(model, ONE, 0.5, 0.3), with_lora(load(FAMILY.model, ONE, 0.5, 0.3))):
            assert tiny_models.relative(FAMILY.sample(slider, START), expected) < CLOSE
        assert tiny_models.relative(FAMILY.sample(model, START), expected) > ACTS / 10


class TestCFGPlusPlus:
    """Those samplers put the whole guided x0 into a step: −σ·γ of it, where Euler's part is −(σ − σ_next)·γ."""

    positive, negative, target = tiny_models.stub_cond(1), tiny_models.stub_cond(2), tiny_models.stub_cond(3)
    start = tiny_models.noise(1, *tiny_models.SIZE)

    def shift(self, sampler, sigmas):
        """How far a concept moved the result of a stub, in units of its γ."""
        plain, edited = (
            tiny_models.sample_cfg(model, self.positive, self.negative, CFG, self.start, sigmas, sampler=sampler)
            for model in (
                tiny_models.stub_model(),
                steered(tiny_models.stub_model(), chain(self.target, threshold=0.0)),
            )
        )
        moved = (plain - edited) / (SCALE * (tiny_models.eps_of(self.target) - tiny_models.eps_of(self.negative)))
        assert tiny_models.relative(moved, torch.full_like(moved, float(moved.mean()))) < CLOSE
        return float(moved.mean())

    @compat("CFG++ samplers")
    @pytest.mark.parametrize(("steps", "factor"), [(10, 2.4), (20, 4.4), (30, 6.5), (50, 10.6)])
    def test_the_scale_acts_by_sigma_over_the_step(self, steps, factor):
        """The factors of a whole run that docs/parameters.md names."""
        sigmas = tiny_models.schedule(tiny_models.stub_model(), steps)
        euler, plus = self.shift("euler", sigmas), self.shift("euler_cfg_pp", sigmas)
        assert euler == pytest.approx(float(sigmas[0]), rel=1e-3)
        assert plus == pytest.approx(float(sigmas.sum()), rel=1e-3)
        assert plus / euler == pytest.approx(factor, abs=0.05)

    @compat("CFG++ samplers")
    @pytest.mark.parametrize("sampler", ["euler_cfg_pp", "dpmpp_2m_cfg_pp"])
    def test_beside(self, sampler):
        assert_beside(MODEL, run(MODEL), sampler=sampler)

    @compat("CFG++ samplers", "slider")
    def test_a_sliders_two_ways_agree(self):
        """Weights and hooks; the sampler's own use of the negative's estimate sees the slider in both."""
        one, other = load(FAMILY.model, ONE, 0.5, 0.3), sweep(FAMILY.model, ONE, "0.5", 0.3)
        found, hooked, bare = (FAMILY.sample(m, START, sampler="euler_cfg_pp") for m in (one, other, FAMILY.model))
        assert tiny_models.relative(hooked, found) < CLOSE
        assert tiny_models.relative(found, bare) > ACTS / 10


class TestCrops:
    """As a detailer works: a crop of the picture, denoised from 0.4 on, pasted back."""

    latent = {"samples": tiny_models.noise(1, 4, 16, 16, seed=8)}  # noqa: RUF012
    steps, denoise = 10, 0.4

    def detailed(self, model, crop=None):
        (found,) = common_ksampler(
            model, 3, self.steps, CFG, "euler", "normal", POSITIVE, NEGATIVE, crop or self.crop(), denoise=self.denoise
        )
        return found

    def crop(self):
        return LatentCrop().crop(self.latent, 64, 64, 32, 32)[0]

    def acting(self, start, end=1.0):
        """The forward passes of a crop's run with a concept in a window, and the result."""
        calls = tiny_models.recorded(steered(MODEL, chain(start=start, end=end)))
        found = self.detailed(calls.model)["samples"]
        return calls.batches, found

    @compat("Detailer (crop, denoise < 1)")
    def test_a_concept_acts_in_what_is_left_of_its_window(self):
        plain = self.detailed(MODEL)["samples"]
        passed, same = self.acting(0.0, 0.5)
        assert passed == [2] * self.steps
        assert torch.equal(same, plain)
        begun, edited = self.acting(0.2)
        assert begun == [3] * self.steps  # at once: the run begins inside the window
        assert torch.equal(edited, self.acting(0.0)[1])
        later, late = self.acting(0.8)
        assert later[0] == 2 and later[-1] == 3
        for found in (edited, late):
            assert tiny_models.relative(found, plain) > ACTS

    @compat("Detailer (crop, denoise < 1)")
    def test_nothing_moves_outside_the_noise_mask(self):
        mask = torch.zeros(1, 64, 64)
        mask[:, 16:48, 16:48] = 1.0
        crop = SetLatentNoiseMask().set_mask(self.crop(), mask)[0]
        plain, edited = (
            LatentComposite().composite(self.latent, self.detailed(model, crop), 32, 32)[0]["samples"]
            for model in (MODEL, steered(MODEL))
        )
        inside = torch.zeros(16, 16, dtype=torch.bool)
        inside[6:10, 6:10] = True
        assert torch.equal((edited != plain).any(1)[0], inside)
        assert tiny_models.relative(edited[..., inside], plain[..., inside]) > ACTS

    @compat("Detailer (crop, denoise < 1)", "slider")
    def test_a_slider_whose_window_has_begun_acts_at_once(self):
        slider = load(MODEL, ONE, 0.5, 0.2)
        assert torch.equal(self.detailed(slider)["samples"], self.detailed(stock(MODEL, (ONE, 0.5)))["samples"])
        over = load(MODEL, ONE, 0.5, 0.0, 0.5)
        assert torch.equal(self.detailed(over)["samples"], self.detailed(MODEL)["samples"])
