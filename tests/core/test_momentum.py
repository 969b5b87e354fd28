"""Momentum over whole runs (equations 7 to 10), and which concepts have to be evaluated when."""

from __future__ import annotations

import numpy as np
import pytest
import slow_sega as slow
import torch

from guidance_core import Concept, Momentum, SigmaWindow, edit_term, needed

LEVELS = [10.0, 8.0, 6.0, 4.0, 2.0, 1.0]


def difference(i: int, step: int) -> torch.Tensor:
    return torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(100 * i + step))


def run(concepts, momentum, levels=LEVELS):
    """Each step's Σγ, evaluating only what is `needed`, with ν committed once a step."""
    nu, terms = {}, []
    for n, sigma in enumerate(levels):
        indices = needed(concepts, sigma, momentum, levels[-1])
        gamma, nu = edit_term({i: difference(i, n) for i in indices}, concepts, sigma, momentum, nu)
        terms.append(sum(gamma.values(), torch.zeros(1, 2, 5, 5)))
    return terms


def slow_run(concepts, momentum_scale, beta, levels=LEVELS):
    """The same, but every concept is evaluated at every step until its end."""
    nu, terms = {}, []
    for n, sigma in enumerate(levels):
        differences = {i: difference(i, n).double().numpy() for i in range(len(concepts))}
        total, nu = slow.step(differences, concepts, sigma, momentum_scale, beta, nu)
        terms.append(total)
    return terms


@pytest.mark.parametrize(
    "windows",
    [
        [(1e9, 0.0)],
        [(6.0, 0.0)],
        [(6.0, 0.0), (6.0, 0.0)],
        [(8.0, 0.0), (4.0, 0.0)],  # partly warm in between
        [(8.0, 3.0), (4.0, 0.0)],  # one ends
        [(8.0, 5.0), (2.0, 0.0)],  # one has ended before the other warms up
        [(8.0, 0.0), (0.5, 0.0)],  # one never warms up
        [(8.0, 0.0), (6.0, 0.0), (4.0, 1.0), (9.0, 7.0), (2.0, 0.0)],
    ],
)
@pytest.mark.parametrize("momentum", [(0.0, 0.4), (0.3, 0.6), (1.0, 0.0)])
def test_evaluating_only_the_needed_concepts_changes_nothing(windows, momentum):
    scales = [5.0, -3.0, 2.0, 4.0, -1.0]
    fast = [Concept(s, 0.6, SigmaWindow(*w)) for s, w in zip(scales, windows, strict=False)]
    reference = [slow.SlowConcept(s, 0.6, *w) for s, w in zip(scales, windows, strict=False)]
    found, expected = run(fast, Momentum(*momentum)), slow_run(reference, *momentum)
    assert any(np.abs(term).max() > 0.1 for term in expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.double().numpy(), other, rtol=1e-5, atol=1e-5)


def test_momentum_is_built_during_the_warm_up_and_used_after_it():
    concept = [Concept(1.0, 0.0, SigmaWindow(8.0, 0.0))]
    with_momentum, without = run(concept, Momentum(0.5, 0.4)), run(concept, Momentum(0.0, 0.4))
    assert with_momentum[0].count_nonzero() == 0  # σ = 10 lies before the window
    nu = (1 - 0.4) * difference(0, 0)  # by hand: ν₁ = (1 − β)·γ₀
    torch.testing.assert_close(with_momentum[1], difference(0, 1) + 0.5 * nu)
    torch.testing.assert_close(without[1], difference(0, 1))


def test_momentum_waits_until_every_concept_is_warm():
    concepts = [Concept(1.0, 0.0, SigmaWindow(1e9, 0.0)), Concept(1.0, 0.0, SigmaWindow(6.0, 0.0))]
    with_momentum, without = run(concepts, Momentum(0.5, 0.4)), run(concepts, Momentum(0.0, 0.4))
    for n in (0, 1):
        assert torch.equal(with_momentum[n], without[n])
        assert with_momentum[n].count_nonzero() > 0
    assert (with_momentum[2] - without[2]).abs().max() > 0.1


def test_a_concept_past_its_end_counts_as_warm():
    ended, lasting = Concept(1.0, 0.0, SigmaWindow(1e9, 9.0)), Concept(1.0, 0.0, SigmaWindow(1e9, 0.0))
    together, alone = run([ended, lasting], Momentum(0.5, 0.4)), run([lasting], Momentum(0.5, 0.4))
    # index 1 draws other differences than index 0, so compare with a run of the same index
    silent = Concept(0.0, 0.0, SigmaWindow(1e9, 0.0))
    reference = run([silent, lasting], Momentum(0.5, 0.4))
    for n in range(1, len(LEVELS)):
        torch.testing.assert_close(together[n], reference[n])
    assert not torch.allclose(together[1], alone[1])


def test_a_concepts_momentum_ends_with_it():
    concept = [Concept(3.0, 0.0, SigmaWindow(1e9, 5.0))]
    terms = run(concept, Momentum(0.9, 0.9))
    assert [bool(term.count_nonzero()) for term in terms] == [True, True, True, False, False, False]


@pytest.mark.parametrize("scale", [0.0, 0.9])
def test_what_a_concept_had_gathered_is_discarded_at_its_end(scale):
    """Beside one that goes on, and where none does; without momentum nothing is kept at all."""
    early, lasting = Concept(3.0, 0.0, SigmaWindow(1e9, 5.0)), Concept(1.0, 0.0, SigmaWindow(1e9, 0.0))
    gathered = {0: difference(0, 0), 1: difference(1, 0)}
    momentum = Momentum(scale, 0.5)
    for concepts, kept in (([early], set()), ([early, lasting], {1})):
        indices = needed(concepts, 4.0, momentum, 1.0)
        gamma, nu = edit_term({i: difference(i, 1) for i in indices}, concepts, 4.0, momentum, gathered)
        assert set(gamma) == kept
        assert set(nu) == (kept if scale else set())


def test_momentum_of_a_steady_direction_settles_at_its_fixed_point():
    """ν∞ = γ∞ = s·ψ/(1 − s_m): the recursion's own limit, in closed form."""
    psi = difference(0, 0)
    concept, momentum, nu = [Concept(2.0, 0.0, SigmaWindow(1e9, 0.0))], Momentum(0.5, 0.4), {}
    for _ in range(60):
        gamma, nu = edit_term({0: psi}, concept, 1.0, momentum, nu)
    torch.testing.assert_close(gamma[0], 2.0 * psi / (1 - 0.5), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(nu[0], gamma[0], rtol=1e-4, atol=1e-5)


def test_keeping_momentum_per_concept_is_the_shared_vector_while_all_act():
    concepts = [Concept(2.0, 0.5, SigmaWindow(1e9, 0.0)), Concept(-4.0, 0.8, SigmaWindow(1e9, 0.0))]
    terms = run(concepts, Momentum(0.3, 0.6))
    shared = np.zeros((1, 2, 5, 5))
    for n, term in enumerate(terms):
        edits = 2.0 * slow.keep(difference(0, n).numpy(), 0.5) - 4.0 * slow.keep(difference(1, n).numpy(), 0.8)
        gamma = edits + 0.3 * shared
        shared = 0.6 * shared + 0.4 * gamma
        np.testing.assert_allclose(term.double().numpy(), gamma, rtol=1e-5, atol=1e-5)


class TestNeeded:
    """Only what can still change the result is evaluated."""

    late = Concept(5.0, 0.9, SigmaWindow(5.0, 0.0))
    early = Concept(5.0, 0.9, SigmaWindow(9.0, 3.0))

    def test_without_momentum_the_warm_up_costs_nothing(self):
        counts = [needed([self.late], sigma, Momentum(0.0), 1.0) for sigma in LEVELS]
        assert counts == [[], [], [], [0], [0], [0]]

    def test_with_momentum_the_warm_up_is_evaluated(self):
        assert [needed([self.late], sigma, Momentum(0.1), 1.0) for sigma in LEVELS] == [[0]] * 6

    def test_after_its_end_a_concept_costs_nothing(self):
        assert [needed([self.early], sigma, Momentum(0.1), 1.0) for sigma in LEVELS] == [[0]] * 4 + [[], []]

    def test_a_warm_up_whose_momentum_is_never_used_costs_nothing(self):
        never = Concept(5.0, 0.9, SigmaWindow(0.5, 0.0))  # the run ends at σ = 1, before it warms up
        assert [needed([self.late, never], sigma, Momentum(0.1), 1.0) for sigma in LEVELS] == [[]] * 3 + [[0]] * 3

    def test_a_concept_that_ends_before_all_are_warm_builds_no_momentum(self):
        first = Concept(5.0, 0.9, SigmaWindow(7.0, 5.0))
        assert [needed([first, self.late], sigma, Momentum(0.1), 1.0) for sigma in LEVELS[:4]] == [
            [1],
            [1],
            [0, 1],
            [1],
        ]

    def test_no_concepts_need_nothing(self):
        assert needed([], 1.0, Momentum(0.5), 0.1) == []
