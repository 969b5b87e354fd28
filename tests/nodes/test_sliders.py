"""How sliders act in a run: windows, composition, neutrality, repeatability, and together with other nodes."""

from __future__ import annotations

import comfy.hooks
import comfy.model_management
import comfy.weight_adapter
import families
import lora_states as states
import pytest
import tiny
import torch
from comfy.model_management import InterruptProcessingException
from semantic_steering.nodes.sega import SEGAConceptConditioning, SEGAGuidance
from sliding import by_hand, load, stock, sweep, weight_changes

CLOSE = 1e-4


def some(name: str) -> bool:
    """Attention and a convolution: enough to act, quick to load."""
    return states.ldm(name) and ("attn" in name or "input_blocks_2_0_in_layers_2" in name)


ONE, TWO = states.unet(1, some), states.unet(50, some)
FAMILY = families.sd()
START = FAMILY.noise(2)


def run(model, start=START, **options):
    return FAMILY.sample(model, start, steps=6, **options)


def sigma(percent):
    return FAMILY.model.get_model_object("model_sampling").percent_to_sigma(percent)


@pytest.fixture(scope="module")
def bare():
    return run(FAMILY.model)


@pytest.fixture
def loads(monkeypatch):
    return weight_changes(monkeypatch)


class TestNeutral:
    @pytest.mark.parametrize(
        "settings", [{"strength": 0.0}, {"start": 0.4, "end": 0.4}, {"strength": 0.0, "to": "positive"}], ids=str
    )
    def test_no_bit_changes(self, settings, bare):
        model = load(FAMILY.model, ONE, **settings)
        assert torch.equal(run(model), bare)
        assert tiny.state_of(model) == tiny.state_of(FAMILY.model)

    @pytest.mark.parametrize("to", ["both", "positive"])
    def test_a_window_that_the_run_never_reaches(self, to):
        """A run from the middle on, as denoise < 1 makes it."""
        sigmas = tiny.schedule(FAMILY.model, 6)[3:]
        model = load(FAMILY.model, ONE, end=0.2, to=to)
        found, plain = (
            tiny.sample_cfg(m, FAMILY.positive, FAMILY.negative, 3.0, START, sigmas) for m in (model, FAMILY.model)
        )
        assert torch.equal(found, plain)

    @pytest.mark.parametrize("to", ["both", "positive"])
    def test_steps_before_the_window_are_the_bare_models(self, to):
        states_seen = {}
        for name, model in (("bare", FAMILY.model), ("slider", load(FAMILY.model, ONE, start=0.5, to=to))):
            states_seen[name] = []
            run(model, callback=lambda i, x0, x, total, name=name: states_seen[name].append(x.clone()))
        same = [torch.equal(a, b) for a, b in zip(states_seen["bare"], states_seen["slider"], strict=True)]
        assert same == [True, True, True, True, False, False]  # the state after a step shows with the next

    def test_a_sweeps_zero_entry(self, bare):
        model = sweep(FAMILY.model, ONE, "0, 1")
        assert torch.equal(run(model)[:1], bare[:1])

    def test_a_sweep_of_zeros(self, bare):
        assert torch.equal(run(sweep(FAMILY.model, ONE, "0, 0")), bare)


class TestWindows:
    WINDOWS = ((ONE, 0.8, 0.2, 0.6), (TWO, -0.5, 0.4, 1.0))

    def expected(self, cfg=3.0):
        def model_at(s):
            acting = [(state, k) for state, k, a, b in self.WINDOWS if sigma(b) < s <= sigma(a)]
            return stock(FAMILY.model, *acting)

        return by_hand(FAMILY, model_at, START, 6, cfg)

    def composed(self, to="both"):
        model = FAMILY.model
        for state, strength, start, end in self.WINDOWS:
            model = load(model, state, strength, start, end, to)
        return model

    @pytest.mark.parametrize("cfg", [1.0, 3.0])
    def test_overlapping_windows_of_two_sliders(self, cfg):
        assert tiny.relative(run(self.composed(), cfg=cfg), self.expected(cfg)) < CLOSE

    def test_the_same_through_hooks(self):
        """At cfg 1 the positive is all there is."""
        assert tiny.relative(run(self.composed("positive"), cfg=1.0), self.expected(1.0)) < CLOSE

    def test_one_weight_change_an_edge(self, loads):
        run(self.composed())
        assert len(loads) == 1 + 3  # 0.2, 0.4 and 0.6 behind the host's own load

    def test_sliders_of_one_window_change_together(self, loads):
        model = load(load(FAMILY.model, ONE, 0.5, 0.3), TWO, 0.5, 0.3)
        result = run(model)
        assert len(loads) == 1 + 1
        both = stock(FAMILY.model, (ONE, 0.5), (TWO, 0.5))
        expected = by_hand(FAMILY, lambda s: both if s <= sigma(0.3) else FAMILY.model, START, 6)
        assert tiny.relative(result, expected) < CLOSE

    def test_a_window_from_the_first_step_on_loads_once(self, loads):
        high = tiny.schedule(FAMILY.model, 6)[:4]
        tiny.sample_cfg(load(FAMILY.model, ONE, 0.5, 0.0, 0.9), FAMILY.positive, FAMILY.negative, 3.0, START, high)
        assert len(loads) == 1

    def test_the_last_edge_is_loaded_as_the_host_loads(self, loads):
        """With the models beside it and the memory that the run was planned with."""
        run(load(FAMILY.model, ONE, 0.5, 0.3))
        (_, first), (_, second) = loads
        assert second["memory_required"] == first["memory_required"] > 0
        assert second["minimum_memory_required"] == first["minimum_memory_required"]

    def test_the_memory_of_segas_concepts_is_counted_at_an_edge(self, loads):
        (concepts,) = SEGAConceptConditioning.execute(tiny.unet_cond(3)).args
        for model in (
            SEGAGuidance.execute(load(FAMILY.model, ONE, 0.5, 0.3), concepts).args[0],
            load(SEGAGuidance.execute(FAMILY.model, concepts).args[0], ONE, 0.5, 0.3),
        ):
            loads.clear()
            run(model)
            (_, first), (_, second) = loads
            assert second["memory_required"] == first["memory_required"]

    def test_more_than_eight_edges_go_through_hooks(self, loads):
        model, windows = FAMILY.model, [(0.05 + 0.09 * i, 1.0) for i in range(9)]
        for start, end in windows:
            model = load(model, ONE, 0.1, start, end)
        found = FAMILY.sample(model, START, steps=20)
        assert len(loads) == 1

        def model_at(s):
            return stock(FAMILY.model, *[(ONE, 0.1) for start, _ in windows if s <= sigma(start)])

        assert tiny.relative(found, by_hand(FAMILY, model_at, START, 20)) < CLOSE
        loads.clear()
        FAMILY.sample(load(model, ONE, 0.0, 0.97), START, steps=20)  # a neutral one more changes nothing
        assert len(loads) == 1

    @pytest.mark.parametrize(
        "sampler", ["heun", "dpm_2", "dpmpp_2s_ancestral", "heunpp2", "dpm_adaptive", "res_multistep"]
    )
    def test_samplers_that_evaluate_between_and_behind_their_steps(self, sampler, loads):
        """Switching and hooks decide by the same σ; one that goes back over an edge does not write weights again."""
        options = {"sampler": sampler, "start": START[:1]}
        switched = run(load(FAMILY.model, ONE, 0.5, 0.3), **options)
        assert len(loads) <= 1 + 2
        hooked = run(load(FAMILY.model, ONE, 0.5, 0.3, to="positive"), cfg=1.0, **options)
        alone = run(load(FAMILY.model, ONE, 0.5, 0.3), cfg=1.0, **options)
        assert tiny.relative(hooked, alone) < CLOSE
        assert tiny.relative(switched, run(FAMILY.model, **options)) > 0.001

    def test_rising_sigmas(self):
        """Unsampling: the window's end comes first."""
        sigmas = tiny.schedule(FAMILY.model, 6).flip(0)[1:-1]
        results = [
            tiny.sample_cfg(m, FAMILY.positive, FAMILY.negative, 1.0, START, sigmas, latent=START)
            for m in (
                load(FAMILY.model, ONE, 0.5, 0.2, 0.7),
                load(FAMILY.model, ONE, 0.5, 0.2, 0.7, "positive"),
                FAMILY.model,
            )
        ]
        assert tiny.relative(results[0], results[1]) < CLOSE
        assert tiny.relative(results[0], results[2]) > 0.001


class TestSweeps:
    @pytest.mark.parametrize("start", [0.0, 0.3])
    @pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "heun"])
    def test_each_entry_is_its_own_run(self, sampler, start):
        noise = START[:1]
        together = run(sweep(FAMILY.model, ONE, "-1, 0, 0.5", start), noise.repeat(3, 1, 1, 1), sampler=sampler)
        for i, strength in enumerate((-1.0, 0.0, 0.5)):
            alone = run(load(FAMILY.model, ONE, strength, start), noise, sampler=sampler)
            assert tiny.relative(together[i : i + 1], alone) < CLOSE

    def test_the_latent_gives_every_entry_the_same_noise(self):
        from comfy.sample import prepare_noise
        from semantic_steering.nodes.sliders import SliderSweep

        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        _, batch, labels = SliderSweep.execute(FAMILY.model, latent, "none", "-1, 0, 1.5", slider=ONE).args
        noise = prepare_noise(batch["samples"], 3, batch["batch_index"])
        assert torch.equal(noise[0], noise[2])
        assert labels.split("\n") == ["-1", "0", "+1.5"]

    def test_a_sweep_on_top_of_a_slider(self):
        noise = START[:1]
        together = run(sweep(load(FAMILY.model, TWO, 0.5, 0.4), ONE, "-1, 1", 0.2), noise.repeat(2, 1, 1, 1))
        for i, strength in enumerate((-1.0, 1.0)):
            alone = run(load(load(FAMILY.model, TWO, 0.5, 0.4), ONE, strength, 0.2), noise)
            assert tiny.relative(together[i : i + 1], alone) < CLOSE

    def test_areas_and_cfg_in_one_batch(self):
        """Several chunks of the batch, of one conditioning and of others."""
        half = {"area": (8, 4, 0, 0), "strength": 1.0}
        positive = [*tiny.unet_cond(1), *tiny.unet_cond(5, **half)]
        results = [
            tiny.sample_cfg(model, positive, FAMILY.negative, 3.0, start, tiny.schedule(model, 4))
            for model, start in (
                (sweep(FAMILY.model, ONE, "0.5, -1", 0.2), START[:1].repeat(2, 1, 1, 1)),
                (load(FAMILY.model, ONE, 0.5, 0.2), START[:1]),
                (load(FAMILY.model, ONE, -1.0, 0.2), START[:1]),
            )
        ]
        assert tiny.relative(results[0][:1], results[1]) < CLOSE
        assert tiny.relative(results[0][1:], results[2]) < CLOSE

    def test_a_batch_of_another_size_is_refused(self):
        with pytest.raises(ValueError, match=r"sweep of 3 strengths, the latent has a batch of 2; connect the latent"):
            run(sweep(FAMILY.model, ONE, "-1, 0, 1"))


class TestPositiveOnly:
    def test_the_negative_is_the_bare_models(self):
        """x0 = n + cfg·(p' − n), where only the positive's estimate has the slider."""
        model = load(FAMILY.model, ONE, 0.5, to="positive")
        one = FAMILY.noise(1)
        sigmas = tiny.schedule(FAMILY.model, 4)[:2]
        cfg = 3.0
        parts = {}
        for name, m, scale in (
            ("positive", stock(FAMILY.model, (ONE, 0.5)), 1.0), ("guided", model, cfg), ("bare", FAMILY.model, cfg),
        ):  # fmt: skip
            seen: list = []
            tiny.sample_cfg(m, FAMILY.positive, FAMILY.negative, scale, one, sigmas,
                            callback=lambda i, x0, x, total, seen=seen: seen.append(x0.clone()))  # fmt: skip
            parts[name] = seen[0]
        bare_positive: list = []
        tiny.sample_cfg(FAMILY.model, FAMILY.positive, FAMILY.negative, 1.0, one, sigmas,
                        callback=lambda i, x0, x, total: bare_positive.append(x0.clone()))  # fmt: skip
        negative = (cfg * bare_positive[0] - parts["bare"]) / (cfg - 1)
        expected = negative + cfg * (parts["positive"] - negative)
        assert tiny.relative(parts["guided"], expected) < CLOSE
        assert tiny.relative(parts["guided"], parts["bare"]) > 0.01

    def test_a_guider_that_counts_its_conditionings_otherwise(self):
        """Dual CFG evaluates [negative, middle, positive]: the positive stands at index 2."""
        from comfy_extras.nodes_custom_sampler import Guider_DualCFG

        def guided(model):
            guider = Guider_DualCFG(model)
            guider.set_conds(FAMILY.positive, tiny.unet_cond(7), FAMILY.negative)
            guider.set_cfg(2.0, 3.0)
            return tiny.sample(guider, START, tiny.schedule(model, 3))

        whole, positive, bare = (
            guided(m) for m in (load(FAMILY.model, ONE, 0.5), load(FAMILY.model, ONE, 0.5, to="positive"), FAMILY.model)
        )
        # cfg 2 on (positive − middle): without it the slider of the positive cannot be seen at all
        assert tiny.relative(positive, bare) > 0.01
        assert tiny.relative(positive, whole) > 0.01

    def test_areas_of_the_negative_keep_out(self):
        """The host makes copies of the positive's areas for the negative, under the same uuid."""
        area = {"area": (8, 4, 0, 0), "strength": 1.0}
        positive, negative = tiny.unet_cond(1, **area), tiny.unet_cond(2)
        seen = []
        model = load(FAMILY.model, ONE, 0.5, to="positive")

        def note(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
            result = executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
            seen.append((transformer_options["cond_or_uncond"], len(x), result))
            return result

        model.add_wrapper_with_key("apply_model", "test", note)
        tiny.sample_cfg(model, positive, negative, 3.0, START[:1], tiny.schedule(model, 2))
        bare = FAMILY.model.clone()
        plain = []

        def note_plain(executor, *args, **kwargs):
            plain.append(executor(*args, **kwargs))
            return plain[-1]

        bare.add_wrapper_with_key("apply_model", "test", note_plain)
        tiny.sample_cfg(bare, positive, negative, 3.0, START[:1], tiny.schedule(model, 2))
        firsts = sum(1 for sigma_seen in seen if sigma_seen is not None) // 2
        for (roles, _, with_slider), without in list(zip(seen, plain, strict=True))[:firsts]:
            for role, a, b in zip(roles, with_slider.chunk(len(roles)), without.chunk(len(roles)), strict=True):
                assert (tiny.relative(a, b) > 0.01) == (role == 0), (roles, role)


class TestTogether:
    def test_segas_concepts_have_the_slider_too(self):
        (concepts,) = SEGAConceptConditioning.execute(
            tiny.unet_cond(3), scale=2.0, threshold=0.5, start_percent=0.0
        ).args

        def steered(model):
            return run(SEGAGuidance.execute(model, concepts).args[0])

        expected = steered(stock(FAMILY.model, (ONE, 0.5)))
        assert torch.equal(steered(load(FAMILY.model, ONE, 0.5)), expected)
        hooked = steered(sweep(FAMILY.model, ONE, "0.5, 0.5"))
        assert tiny.relative(hooked, expected) < CLOSE
        positive = steered(load(FAMILY.model, ONE, 0.5, to="positive"))
        assert tiny.relative(positive, expected) > 0.001

    def test_the_order_of_sega_and_a_slider_does_not_matter(self):
        (concepts,) = SEGAConceptConditioning.execute(tiny.unet_cond(3), scale=2.0).args
        one = run(SEGAGuidance.execute(load(FAMILY.model, ONE, 0.5, 0.3), concepts).args[0])
        other = run(load(SEGAGuidance.execute(FAMILY.model, concepts).args[0], ONE, 0.5, 0.3))
        assert torch.equal(one, other)

    def test_two_branches_do_not_touch_each_other(self, bare):
        one, other = load(FAMILY.model, ONE, 0.5, 0.3), load(FAMILY.model, TWO, -0.5, 0.2, 0.6)
        first, second = run(one), run(other)
        for model, expected in ((one, first), (FAMILY.model, bare), (other, second), (one, first)):
            assert torch.equal(run(model), expected)
        both = load(one, TWO, -0.5, 0.2, 0.6)
        assert tiny.relative(run(both), first) > 0.001
        assert torch.equal(run(one), first)

    def test_beside_the_hosts_own_lora_and_hooks_on_conditionings(self):
        plain = load(stock(FAMILY.model, (TWO, 0.5)), ONE, 0.5, 0.3)
        hooks = comfy.hooks.create_hook_lora(dict(TWO), 0.5, 0.0)
        hooked = [comfy.hooks.set_hooks_for_conditioning(cond, hooks) for cond in (FAMILY.positive, FAMILY.negative)]
        sigmas = tiny.schedule(FAMILY.model, 6)
        found = tiny.sample_cfg(load(FAMILY.model, ONE, 0.5, 0.3), *hooked, 3.0, START, sigmas)
        assert tiny.relative(found, run(plain)) < CLOSE

    def test_beside_a_bypass_lora_whose_injections_change_hands(self):
        bypassed, _ = comfy.sd.load_bypass_lora_for_models(FAMILY.model, None, dict(TWO), 0.5, 0)
        alone = run(bypassed)
        found = run(load(bypassed, ONE, 0.5, 0.3))
        expected = run(load(stock(FAMILY.model, (TWO, 0.5)), ONE, 0.5, 0.3))
        assert tiny.relative(found, expected) < CLOSE
        assert torch.equal(run(bypassed), alone)

    def test_an_inversion_refuses_a_window_and_takes_a_whole_run(self):
        from semantic_steering.nodes.inversion import DDIMInvert

        latent = {"samples": tiny.noise(1, 4, 8, 8)}
        for model in (load(FAMILY.model, ONE, 0.5, 0.2), sweep(FAMILY.model, ONE, "0, 1")):
            with pytest.raises(
                ValueError, match=r"already carries a slider with a window .* from before Slider LoRA Loader"
            ):
                DDIMInvert.execute(model, FAMILY.positive, latent, steps=4, method="ddim")
        DDIMInvert.execute(load(FAMILY.model, ONE, 0.5), FAMILY.positive, latent, steps=4, method="ddim")

    def test_a_dual_model_guider_is_refused(self):
        from comfy_extras.nodes_custom_sampler import Guider_DualModel

        guider = Guider_DualModel(load(FAMILY.model, ONE, 0.5, 0.2), FAMILY.model)
        guider.set_conds(FAMILY.positive, FAMILY.negative)
        guider.set_cfg(3.0)
        with pytest.raises(ValueError, match=r"Dual Model CFG Guider.*start_percent to 0 and end_percent to 1"):
            tiny.sample(guider, START, tiny.schedule(FAMILY.model, 3))


MODELS = {
    "switched": lambda: load(load(FAMILY.model, ONE, 0.5, 0.3), TWO, -0.5, 0.2, 0.6),
    "hooked": lambda: sweep(FAMILY.model, ONE, "0.5, -0.5", 0.3),
}


class TestAgain:
    """Runs of one cached MODEL object, after other runs, errors and interrupts."""

    @pytest.mark.parametrize("name", MODELS)
    @pytest.mark.parametrize("error", [RuntimeError, InterruptProcessingException])
    def test_after_an_error_in_the_middle_the_bits_are_the_same(self, name, error, bare):
        model = MODELS[name]()
        first, before = run(model), tiny.state_of(model)
        weights = {k: v.clone() for k, v in FAMILY.model.model.state_dict().items()}

        def stop(i, *_):
            if i == 3:
                raise error

        with pytest.raises(error):
            run(model, callback=stop)
        assert torch.equal(run(FAMILY.model), bare)
        assert all(torch.equal(weights[k], v) or name == "switched" for k, v in FAMILY.model.model.state_dict().items())
        assert torch.equal(run(model), first)
        assert tiny.state_of(model) == before
        assert not any(m._forward_hooks for m in FAMILY.model.model.modules())

    @pytest.mark.parametrize("name", MODELS)
    def test_the_weights_are_the_models_own_after_the_next_load(self, name):
        run(FAMILY.model)
        weights = {k: v.clone() for k, v in FAMILY.model.model.state_dict().items()}
        run(MODELS[name]())
        comfy.model_management.load_models_gpu([FAMILY.model])
        assert all(torch.equal(weights[k], v) for k, v in FAMILY.model.model.state_dict().items())

    def test_an_error_while_weights_change(self, monkeypatch, bare):
        model = MODELS["switched"]()
        first = run(model)
        original, count = comfy.model_management.load_models_gpu, []

        def fail(*args, **kwargs):
            count.append(1)
            if len(count) == 2:
                raise torch.OutOfMemoryError("made up")
            return original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(comfy.model_management, "load_models_gpu", fail)
            with pytest.raises(torch.OutOfMemoryError):
                run(model)
        assert torch.equal(run(FAMILY.model), bare)
        assert torch.equal(run(model), first)


class TestKindsOfWeights:
    @pytest.mark.parametrize(("write", "kind"), [(states.dora, "DoRA"), (states.oft, "OFT")])
    def test_what_has_no_additive_form_is_switched_but_not_hooked(self, write, kind):
        layers = states.targets(FAMILY.model, "lora_unet_", lambda n: states.ldm(n) and "attn1_to_out" in n)
        state = write(layers)
        patched = stock(FAMILY.model, (state, 1.0))
        expected = by_hand(FAMILY, lambda s: patched if s <= sigma(0.3) else FAMILY.model, START, 6)
        assert tiny.relative(run(load(FAMILY.model, state, 1.0, 0.3)), expected) < CLOSE
        assert tiny.relative(expected, run(FAMILY.model)) > 0.001
        for model, advice in (
            (load(FAMILY.model, state, 1.0, 0.3, to="positive"), "set apply_to to both"),
            (sweep(FAMILY.model, state, "0, 1"), "Slider LoRA Loader"),
        ):
            with pytest.raises(ValueError, match=rf"{kind} weights .*cannot act with .*{advice}"):
                run(model)

    def test_eight_bit_weights(self):
        """Stored in float8 and cast at each use, as large models are."""
        patcher = families.sd().model
        exact = families.sd().model
        for (name, module), other in zip(
            patcher.model.diffusion_model.named_modules(), exact.model.diffusion_model.modules(), strict=True
        ):
            if isinstance(module, torch.nn.Linear) and "transformer_blocks" in name:
                module.weight.data = module.weight.data.to(torch.float8_e4m3fn)
                other.weight.data = module.weight.data.float()
                module.comfy_cast_weights = True
        found = run(sweep(patcher, ONE, "0.5, -0.5", 0.3))
        expected = run(sweep(exact, ONE, "0.5, -0.5", 0.3))
        assert tiny.relative(found, expected) < CLOSE
        assert tiny.relative(found, run(patcher)) > 0.001
