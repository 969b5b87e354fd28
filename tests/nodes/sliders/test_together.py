"""Sliders together with other nodes, and of kinds of weights that not every way of acting can take."""

from __future__ import annotations

import comfy.hooks
import comfy.model_management
import comfy.samplers
import comfy.sd
import family_models
import lora_states as states
import pytest
import tiny_models
import torch
from comfy_extras.nodes_custom_sampler import DualModelGuider
from semantic_steering.nodes.sega import SEGAConceptConditioning, SEGAGuidance
from slider_runs import CLOSE, FAMILY, ONE, START, TWO, by_hand, load, run, sigma, stock, sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bare():
    return run(FAMILY.model)


class TestTogether:
    def test_segas_concepts_have_the_slider_too(self):
        (concepts,) = SEGAConceptConditioning.execute(
            tiny_models.unet_cond(3), scale=2.0, threshold=0.5, start_percent=0.0
        ).args

        def steered(model):
            return run(SEGAGuidance.execute(model, concepts).args[0])

        expected = steered(stock(FAMILY.model, (ONE, 0.5)))
        assert torch.equal(steered(load(FAMILY.model, ONE, 0.5)), expected)
        hooked = steered(sweep(FAMILY.model, ONE, "0.5, 0.5"))
        assert tiny_models.relative(hooked, expected) < CLOSE
        positive = steered(load(FAMILY.model, ONE, 0.5, to="positive"))
        assert tiny_models.relative(positive, expected) > 0.001

    def test_the_order_of_sega_and_a_slider_does_not_matter(self):
        (concepts,) = SEGAConceptConditioning.execute(tiny_models.unet_cond(3), scale=2.0).args
        one = run(SEGAGuidance.execute(load(FAMILY.model, ONE, 0.5, 0.3), concepts).args[0])
        other = run(load(SEGAGuidance.execute(FAMILY.model, concepts).args[0], ONE, 0.5, 0.3))
        assert torch.equal(one, other)

    def test_two_branches_do_not_touch_each_other(self, bare):
        one, other = load(FAMILY.model, ONE, 0.5, 0.3), load(FAMILY.model, TWO, -0.5, 0.2, 0.6)
        first, second = run(one), run(other)
        for model, expected in ((one, first), (FAMILY.model, bare), (other, second), (one, first)):
            assert torch.equal(run(model), expected)
        both = load(one, TWO, -0.5, 0.2, 0.6)
        assert tiny_models.relative(run(both), first) > 0.001
        assert torch.equal(run(one), first)

    def test_beside_the_hosts_own_lora_and_hooks_on_conditionings(self):
        plain = load(stock(FAMILY.model, (TWO, 0.5)), ONE, 0.5, 0.3)
        hooks = comfy.hooks.create_hook_lora(dict(TWO), 0.5, 0.0)
        hooked = [comfy.hooks.set_hooks_for_conditioning(cond, hooks) for cond in (FAMILY.positive, FAMILY.negative)]
        sigmas = tiny_models.schedule(FAMILY.model, 6)
        found = tiny_models.sample_cfg(load(FAMILY.model, ONE, 0.5, 0.3), *hooked, 3.0, START, sigmas)
        assert tiny_models.relative(found, run(plain)) < CLOSE

    def test_beside_a_bypass_lora_whose_injections_change_hands(self):
        bypassed, _ = comfy.sd.load_bypass_lora_for_models(FAMILY.model, None, dict(TWO), 0.5, 0)
        alone = run(bypassed)
        found = run(load(bypassed, ONE, 0.5, 0.3))
        expected = run(load(stock(FAMILY.model, (TWO, 0.5)), ONE, 0.5, 0.3))
        assert tiny_models.relative(found, expected) < CLOSE
        assert torch.equal(run(bypassed), alone)

    def test_an_inversion_refuses_a_window_and_takes_a_whole_run(self):
        from semantic_steering.nodes.inversion import DDIMInvert

        latent = {"samples": tiny_models.noise(1, 4, 8, 8)}
        for model in (load(FAMILY.model, ONE, 0.5, 0.2), sweep(FAMILY.model, ONE, "0, 1")):
            with pytest.raises(
                ValueError, match=r"already carries a slider with a window .* from before Slider LoRA Loader"
            ):
                DDIMInvert.execute(model, FAMILY.positive, latent, steps=4, method="ddim")
        DDIMInvert.execute(load(FAMILY.model, ONE, 0.5), FAMILY.positive, latent, steps=4, method="ddim")

    @pytest.mark.parametrize(
        ("first", "advice"),
        [(True, "start_percent to 0 and end_percent to 1"), (False, "second model .*the model from before it")],
    )
    def test_a_dual_model_guider_is_refused(self, first, advice):
        slider, other = load(FAMILY.model, ONE, 0.5, 0.2), family_models.sd().model
        models = (slider, other) if first else (other, slider)
        guider = DualModelGuider.execute(models[0], FAMILY.positive, 3.0, models[1], FAMILY.negative).args[0]
        with pytest.raises(ValueError, match=advice):
            tiny_models.sample(guider, START, tiny_models.schedule(FAMILY.model, 3))

    def test_a_whole_run_slider_acts_on_the_second_model_of_a_guider(self):
        def found(second):
            guider = DualModelGuider.execute(FAMILY.model, FAMILY.positive, 3.0, second, FAMILY.negative).args[0]
            return tiny_models.sample(guider, START, tiny_models.schedule(FAMILY.model, 3))

        second = family_models.sd().model
        alone = found(second)
        assert tiny_models.relative(found(load(second, ONE, 0.5)), alone) > 0.001

    def test_positive_only_without_a_positive_is_refused(self):
        guider = comfy.samplers.CFGGuider(load(FAMILY.model, ONE, 0.5, 0.2, to="positive"))
        guider.inner_set_conds({"first": FAMILY.positive, "second": FAMILY.negative})
        with pytest.raises(ValueError, match=r"no positive conditioning \(it has first, second\)"):
            tiny_models.sample(guider, START, tiny_models.schedule(FAMILY.model, 3))


class TestKindsOfWeights:
    @pytest.mark.parametrize(
        ("write", "kind"),
        [
            pytest.param(
                write,
                kind,
                marks=pytest.mark.compat(table="slider formats", row=f"{kind}, in a sweep", feature="SD UNet"),
            )
            for write, kind in ((states.dora, "DoRA"), (states.oft, "OFT"))
        ],
    )
    def test_what_has_no_additive_form_is_switched_but_not_hooked(self, write, kind, record_property):
        layers = states.targets(FAMILY.model, "lora_unet_", lambda n: states.ldm(n) and "attn1_to_out" in n)
        state = write(layers)
        patched = stock(FAMILY.model, (state, 1.0))
        expected = by_hand(FAMILY, lambda s: patched if s <= sigma(0.3) else FAMILY.model, START, 6)
        assert tiny_models.relative(run(load(FAMILY.model, state, 1.0, 0.3)), expected) < CLOSE
        assert tiny_models.relative(expected, run(FAMILY.model)) > 0.001
        for model, advice in (
            (load(FAMILY.model, state, 1.0, 0.3, to="positive"), "set apply_to to both"),
            (sweep(FAMILY.model, state, "0, 1"), "Slider LoRA Loader"),
        ):
            with pytest.raises(ValueError, match=rf"{kind} weights .*cannot act with .*{advice}") as refused:
                run(model)
        record_property("no", f"refused before sampling: {refused.value}; in a window it is ComfyUI's own merge")

    @pytest.mark.compat(table="combinations", row="weights in float8", feature="slider")
    def test_eight_bit_weights(self):
        """Stored in float8 and cast at each use, as large models are."""
        patcher = family_models.sd().model
        exact = family_models.sd().model
        for (name, module), other in zip(
            patcher.model.diffusion_model.named_modules(), exact.model.diffusion_model.modules(), strict=True
        ):
            if isinstance(module, torch.nn.Linear) and "transformer_blocks" in name:
                module.weight.data = module.weight.data.to(torch.float8_e4m3fn)
                other.weight.data = module.weight.data.float()
                module.comfy_cast_weights = True
        found = run(sweep(patcher, ONE, "0.5, -0.5", 0.3))
        expected = run(sweep(exact, ONE, "0.5, -0.5", 0.3))
        assert tiny_models.relative(found, expected) < CLOSE
        assert tiny_models.relative(found, run(patcher)) > 0.001
