"""Momentum moves on exactly once a sampler step, whatever the sampler evaluates in between.

The stub's Δn is known at every noise level, so ν after step i has a closed form: the recursion over the schedule's own
levels, without those in between.
"""

from __future__ import annotations

import itertools

import comfy.samplers
import pytest
import tiny_models
import torch

POSITIVE, NEGATIVE, TARGET = tiny_models.stub_cond(1), tiny_models.stub_cond(2), tiny_models.stub_cond(3)
SCALE, MOMENTUM, BETA, GROWTH = 2.0, 0.5, 0.4, 0.003
DIRECTION = tiny_models.eps_of(TARGET) - tiny_models.eps_of(NEGATIVE)


def momenta(model, levels) -> list[torch.Tensor]:
    """ν after each step, by hand: γ = s·Δn + s_m·ν, ν ← β·ν + (1 − β)·γ."""
    sampling = model.get_model_object("model_sampling")
    nu, found = torch.zeros_like(DIRECTION), []
    for sigma in levels:
        if sigma > 0:
            difference = DIRECTION * (1 + GROWTH * float(sampling.timestep(sigma)))
            gamma = SCALE * difference + MOMENTUM * nu
            nu = BETA * nu + (1 - BETA) * gamma
            found.append(nu)
    return found


def steered(runs: list):
    model = tiny_models.stub_model(growth=GROWTH)
    return tiny_models.steer(
        model, tiny_models.concept(TARGET, SCALE), momentum=MOMENTUM, beta=BETA, started=runs.append
    )


def count_commits(monkeypatch) -> list[int]:
    """One entry for each commit that had a candidate in hand."""
    from semantic_steering.nodes.host.sega.run import SEGARun

    commits, original = [], SEGARun._commit

    def note(run):
        if run._finding is not None:
            commits.append(1)
        original(run)

    monkeypatch.setattr(SEGARun, "_commit", note)
    return commits


@pytest.mark.parametrize(
    "sampler",
    ["euler", "heun", "dpm_2", "heunpp2", "dpmpp_sde", "uni_pc", "uni_pc_bh2", "dpmpp_2s_ancestral", "dpmpp_2m",
     "dpmpp_3m_sde", "seeds_2", "seeds_3", "sa_solver_pece", "exp_heun_2_x0", "res_multistep", "ddim", "lms"],
)  # fmt: skip
def test_one_commit_a_step(sampler, monkeypatch):
    runs, seen = [], []
    commits = count_commits(monkeypatch)
    model = steered(runs)
    sigmas = comfy.samplers.KSampler(model, 6, tiny_models.CPU, sampler, "sgm_uniform").sigmas
    expected = momenta(model, sigmas[:-1])
    tiny_models.sample_cfg(
        model, POSITIVE, NEGATIVE, sigmas=sigmas.clone(), sampler=sampler,
        callback=lambda *_: seen.append(runs[0].nu[0].clone()),
    )  # fmt: skip
    assert len(seen) == len(sigmas) - 1 == len(commits)
    for nu, closed_form in zip(seen, expected, strict=True):
        assert tiny_models.relative(nu, closed_form) < 1e-4
    for nu, following in itertools.pairwise(expected):
        assert tiny_models.relative(nu, following) > 0.01  # the closed form tells steps apart


@pytest.mark.parametrize("evaluations", [1, 2, 3])
def test_a_sampler_that_never_calls_back_commits_once_a_step(evaluations, monkeypatch):
    """The step's own level last, as samplers with a callback do; the commit comes with the next step's first level."""

    def silent(model, x, sigmas, extra_args=None, callback=None, disable=None):
        for i in range(len(sigmas) - 1):
            for part in range(evaluations - 1, -1, -1):
                between = sigmas[i] + (sigmas[i + 1] - sigmas[i]) * part / evaluations
                denoised = model(x, between * x.new_ones(len(x)), **extra_args)
            x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
        return x

    runs: list = []
    commits = count_commits(monkeypatch)
    model = steered(runs)
    sigmas = tiny_models.schedule(model, 6, "sgm_uniform")
    expected = momenta(model, sigmas[:-1])
    tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, sigmas=sigmas, sampler=comfy.samplers.KSAMPLER(silent))
    assert len(commits) == 6
    assert tiny_models.relative(runs[0].nu[0], expected[-1]) < 1e-4


def test_a_repeated_level_without_a_callback_is_one_step():
    """Steps are told apart by σ, never by counting evaluations."""
    from semantic_steering.nodes.host.run.step_clock import StepClock

    commits = []
    clock = StepClock([10.0, 6.0, 3.0, 0.0], lambda: commits.append(clock.step_of(level)))
    for level in (10.0, 8.0, 10.0, 6.00001, 4.5, 6.0, 3.0):
        clock.evaluate(level)
    clock.finish()
    assert len(commits) == 3


def test_the_callback_that_was_given_is_called_with_what_the_sampler_said():
    from semantic_steering.nodes.host.run.step_clock import StepClock

    order = []
    clock = StepClock([1.0, 0.0], lambda: order.append("commit"))
    callback = clock.wrap(lambda *args: order.append(args))
    callback(0, "x0", "x", 1)
    clock.finish()
    assert order == ["commit", (0, "x0", "x", 1)]


def test_evaluations_between_steps_use_the_committed_momentum():
    """Heun's second evaluation lies at the next level: its candidate must not reach the next step."""
    model, runs = tiny_models.stub_model(), []
    steady = tiny_models.steer(
        model, tiny_models.concept(TARGET, SCALE), momentum=MOMENTUM, beta=BETA, started=runs.append
    )
    sigmas = tiny_models.schedule(model, 4, "sgm_uniform")
    heun, euler = [], []
    for name, seen in (("heun", heun), ("euler", euler)):

        def note(*_, seen=seen):
            seen.append(runs[-1].nu[0])

        tiny_models.sample_cfg(steady, POSITIVE, NEGATIVE, sigmas=sigmas, sampler=name, callback=note)
    for one, other in zip(heun, euler, strict=True):
        assert tiny_models.relative(one, other) < 1e-5


def test_what_an_ended_concept_had_gathered_is_discarded():
    """Also for a sampler that goes back into its window: there it begins anew."""
    runs, gathered = [], []
    model = tiny_models.stub_model()
    early = tiny_models.concept(TARGET, SCALE, end=0.5)  # ends at σ = 1.6
    steered = tiny_models.steer(model, early, momentum=MOMENTUM, beta=BETA, started=runs.append)
    tiny_models.sample_cfg(
        steered, POSITIVE, NEGATIVE, sigmas=torch.tensor([10.0, 6.0, 1.0, 6.0, 3.0, 0.0]),
        callback=lambda *_: gathered.append(dict(runs[0].nu)),
    )  # fmt: skip
    assert [list(nu) for nu in gathered] == [[0], [0], [], [0], [0]]
    first, second, _, again, _ = gathered
    torch.testing.assert_close(again[0], first[0])
    assert tiny_models.relative(second[0], first[0]) > 0.01
