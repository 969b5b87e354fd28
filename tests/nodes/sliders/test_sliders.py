"""How sliders act in a run: neutral settings, windows, sweeps, and the positive only."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from semantic_steering.nodes.sega import SEGAConceptConditioning, SEGAGuidance
from slider_runs import CLOSE, FAMILY, ONE, START, TWO, by_hand, load, run, sigma, stock, sweep, weight_changes


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
        assert tiny_models.state_of(model) == tiny_models.state_of(FAMILY.model)

    @pytest.mark.parametrize("to", ["both", "positive"])
    def test_a_window_that_the_run_never_reaches(self, to):
        """A run from the middle on, as denoise < 1 makes it."""
        sigmas = tiny_models.schedule(FAMILY.model, 6)[3:]
        model = load(FAMILY.model, ONE, end=0.2, to=to)
        found, plain = (
            tiny_models.sample_cfg(m, FAMILY.positive, FAMILY.negative, 3.0, START, sigmas)
            for m in (model, FAMILY.model)
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
        assert tiny_models.relative(run(self.composed(), cfg=cfg), self.expected(cfg)) < CLOSE

    def test_the_same_through_hooks(self):
        """At cfg 1 the positive is all there is."""
        assert tiny_models.relative(run(self.composed("positive"), cfg=1.0), self.expected(1.0)) < CLOSE

    def test_one_weight_change_an_edge(self, loads):
        run(self.composed())
        assert len(loads) == 1 + 3  # 0.2, 0.4 and 0.6 behind the host's own load

    def test_sliders_of_one_window_change_together(self, loads):
        model = load(load(FAMILY.model, ONE, 0.5, 0.3), TWO, 0.5, 0.3)
        result = run(model)
        assert len(loads) == 1 + 1
        both = stock(FAMILY.model, (ONE, 0.5), (TWO, 0.5))
        expected = by_hand(FAMILY, lambda s: both if s <= sigma(0.3) else FAMILY.model, START, 6)
        assert tiny_models.relative(result, expected) < CLOSE

    def test_a_window_from_the_first_step_on_loads_once(self, loads):
        high = tiny_models.schedule(FAMILY.model, 6)[:4]
        tiny_models.sample_cfg(
            load(FAMILY.model, ONE, 0.5, 0.0, 0.9), FAMILY.positive, FAMILY.negative, 3.0, START, high
        )
        assert len(loads) == 1

    def test_the_last_edge_is_loaded_as_the_host_loads(self, loads):
        """With the models beside it and the memory that the run was planned with."""
        run(load(FAMILY.model, ONE, 0.5, 0.3))
        (_, first), (_, second) = loads
        assert second["memory_required"] == first["memory_required"] > 0
        assert second["minimum_memory_required"] == first["minimum_memory_required"]

    def test_the_memory_of_segas_concepts_is_counted_at_an_edge(self, loads):
        (concepts,) = SEGAConceptConditioning.execute(tiny_models.unet_cond(3)).args
        for model in (
            SEGAGuidance.execute(load(FAMILY.model, ONE, 0.5, 0.3), concepts).args[0],
            load(SEGAGuidance.execute(FAMILY.model, concepts).args[0], ONE, 0.5, 0.3),
        ):
            loads.clear()
            run(model)
            (_, first), (_, second) = loads
            assert second["memory_required"] == first["memory_required"]

    @pytest.mark.slow
    def test_more_than_eight_edges_go_through_hooks(self, loads):
        model, windows = FAMILY.model, [(0.05 + 0.09 * i, 1.0) for i in range(9)]
        for start, end in windows:
            model = load(model, ONE, 0.1, start, end)
        found = FAMILY.sample(model, START, steps=20)
        assert len(loads) == 1

        def model_at(s):
            return stock(FAMILY.model, *[(ONE, 0.1) for start, _ in windows if s <= sigma(start)])

        assert tiny_models.relative(found, by_hand(FAMILY, model_at, START, 20)) < CLOSE
        loads.clear()
        FAMILY.sample(load(model, ONE, 0.0, 0.97), START, steps=20)  # a neutral one more changes nothing
        assert len(loads) == 1

    @pytest.mark.slow
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
        assert tiny_models.relative(hooked, alone) < CLOSE
        assert tiny_models.relative(switched, run(FAMILY.model, **options)) > 0.001

    def test_rising_sigmas(self):
        """Unsampling: the window's end comes first."""
        sigmas = tiny_models.schedule(FAMILY.model, 6).flip(0)[1:-1]
        results = [
            tiny_models.sample_cfg(m, FAMILY.positive, FAMILY.negative, 1.0, START, sigmas, latent=START)
            for m in (
                load(FAMILY.model, ONE, 0.5, 0.2, 0.7),
                load(FAMILY.model, ONE, 0.5, 0.2, 0.7, "positive"),
                FAMILY.model,
            )
        ]
        assert tiny_models.relative(results[0], results[1]) < CLOSE
        assert tiny_models.relative(results[0], results[2]) > 0.001


class TestSweeps:
    @pytest.mark.slow
    @pytest.mark.parametrize("start", [0.0, 0.3])
    @pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "heun"])
    def test_each_entry_is_its_own_run(self, sampler, start):
        noise = START[:1]
        together = run(sweep(FAMILY.model, ONE, "-1, 0, 0.5", start), noise.repeat(3, 1, 1, 1), sampler=sampler)
        for i, strength in enumerate((-1.0, 0.0, 0.5)):
            alone = run(load(FAMILY.model, ONE, strength, start), noise, sampler=sampler)
            assert tiny_models.relative(together[i : i + 1], alone) < CLOSE

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
            assert tiny_models.relative(together[i : i + 1], alone) < CLOSE

    def test_areas_and_cfg_in_one_batch(self):
        """Several chunks of the batch, of one conditioning and of others."""
        half = {"area": (8, 4, 0, 0), "strength": 1.0}
        positive = [*tiny_models.unet_cond(1), *tiny_models.unet_cond(5, **half)]
        results = [
            tiny_models.sample_cfg(model, positive, FAMILY.negative, 3.0, start, tiny_models.schedule(model, 4))
            for model, start in (
                (sweep(FAMILY.model, ONE, "0.5, -1", 0.2), START[:1].repeat(2, 1, 1, 1)),
                (load(FAMILY.model, ONE, 0.5, 0.2), START[:1]),
                (load(FAMILY.model, ONE, -1.0, 0.2), START[:1]),
            )
        ]
        assert tiny_models.relative(results[0][:1], results[1]) < CLOSE
        assert tiny_models.relative(results[0][1:], results[2]) < CLOSE

    def test_a_batch_of_another_size_is_refused(self):
        with pytest.raises(ValueError, match=r"sweep of 3 strengths, the latent has a batch of 2; connect the latent"):
            run(sweep(FAMILY.model, ONE, "-1, 0, 1"))


class TestPositiveOnly:
    def test_the_negative_is_the_bare_models(self):
        """x0 = n + cfg·(p' − n), where only the positive's estimate has the slider."""
        model = load(FAMILY.model, ONE, 0.5, to="positive")
        one = FAMILY.noise(1)
        sigmas = tiny_models.schedule(FAMILY.model, 4)[:2]
        cfg = 3.0
        parts = {}
        for name, m, scale in (
            ("positive", stock(FAMILY.model, (ONE, 0.5)), 1.0), ("guided", model, cfg), ("bare", FAMILY.model, cfg),
        ):  # fmt: skip
            seen: list = []
            tiny_models.sample_cfg(m, FAMILY.positive, FAMILY.negative, scale, one, sigmas,
                            callback=lambda i, x0, x, total, seen=seen: seen.append(x0.clone()))  # fmt: skip
            parts[name] = seen[0]
        bare_positive: list = []
        tiny_models.sample_cfg(FAMILY.model, FAMILY.positive, FAMILY.negative, 1.0, one, sigmas,
                        callback=lambda i, x0, x, total: bare_positive.append(x0.clone()))  # fmt: skip
        negative = (cfg * bare_positive[0] - parts["bare"]) / (cfg - 1)
        expected = negative + cfg * (parts["positive"] - negative)
        assert tiny_models.relative(parts["guided"], expected) < CLOSE
        assert tiny_models.relative(parts["guided"], parts["bare"]) > 0.01

    def test_a_guider_that_counts_its_conditionings_otherwise(self):
        """Dual CFG evaluates [negative, middle, positive]: the positive stands at index 2."""
        from comfy_extras.nodes_custom_sampler import Guider_DualCFG

        def guided(model):
            guider = Guider_DualCFG(model)
            guider.set_conds(FAMILY.positive, tiny_models.unet_cond(7), FAMILY.negative)
            guider.set_cfg(2.0, 3.0)
            return tiny_models.sample(guider, START, tiny_models.schedule(model, 3))

        whole, positive, bare = (
            guided(m) for m in (load(FAMILY.model, ONE, 0.5), load(FAMILY.model, ONE, 0.5, to="positive"), FAMILY.model)
        )
        # cfg 2 on (positive − middle): without it the slider of the positive cannot be seen at all
        assert tiny_models.relative(positive, bare) > 0.01
        assert tiny_models.relative(positive, whole) > 0.01

    def test_areas_of_the_negative_keep_out(self):
        """The host makes copies of the positive's areas for the negative, under the same uuid."""

        def outputs(model):
            """Of the first evaluation: {which conditioning: what its chunk of the batch gave}."""
            seen = []

            def note(executor, x, t, c_concat, c_crossattn, control, transformer_options, **kwargs):
                result = executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
                seen.append(list(zip(transformer_options["cond_or_uncond"], result.chunk(len(x)), strict=True)))
                return result

            model = model.clone()
            model.add_wrapper_with_key("apply_model", "test", note)
            positive = tiny_models.unet_cond(1, area=(8, 4, 0, 0), strength=1.0)
            sigmas = tiny_models.schedule(model, 2)
            tiny_models.sample_cfg(model, positive, FAMILY.negative, 3.0, START[:1], sigmas)
            return seen[: len(seen) // 2]

        pairs = zip(outputs(load(FAMILY.model, ONE, 0.5, to="positive")), outputs(FAMILY.model), strict=True)
        found = [
            (role, tiny_models.relative(a, b) > 0.01)
            for one, two in pairs
            for (role, a), (_, b) in zip(one, two, strict=True)
        ]
        assert sorted(found) == [(0, True), (1, False), (1, False)]  # the negative in the area, and outside of it
