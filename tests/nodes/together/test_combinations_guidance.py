"""SEGA beside the host's other guidance nodes: each keeps its own result, and the edit is added to it."""

from __future__ import annotations

import family_models
import pytest
import tiny_models
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_apg import APG
from comfy_extras.nodes_easycache import EasyCacheNode
from comfy_extras.nodes_model_advanced import RescaleCFG
from comfy_extras.nodes_nag import NAGuidance
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_sag import SelfAttentionGuidance
from edits_by_hand import (
    ACTS,
    CFG,
    CLOSE,
    MODEL,
    NEGATIVE,
    POSITIVE,
    SCALE,
    START,
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
)
from semantic_steering.nodes.sega import SEGASampler

pytestmark = pytest.mark.slow

NODES = {
    "Perturbed-Attention Guidance": lambda model: PerturbedAttentionGuidance.execute(model, 3.0).args[0],
    "Self-Attention Guidance": lambda model: SelfAttentionGuidance.execute(model, 0.5, 2.0).args[0],
    "Adaptive Projected Guidance": lambda model: APG.execute(model, 0.5, 5.0, 0.0).args[0],
    "RescaleCFG": lambda model: RescaleCFG().patch(model, 0.7)[0],
    "Normalized Attention Guidance": lambda model: NAGuidance.execute(model, 5.0, 0.5, 2.5).args[0],
}
EACH = pytest.mark.parametrize("name", [pytest.param(name, marks=compat(name)) for name in NODES])


@EACH
def test_beside(name):
    assert_beside(NODES[name](MODEL), run(MODEL))


@EACH
def test_the_order_of_the_nodes_does_not_matter(name):
    assert torch.equal(run(steered(NODES[name](MODEL))), run(NODES[name](steered(MODEL))))


@EACH
@pytest.mark.parametrize("base", ["negative", "positive"])
def test_one_evaluation_is_the_nodes_own_result_and_the_edit(name, base):
    """The edit is the plain model's difference between concept and base: nothing of the other node is in it."""
    model = NODES[name](MODEL)
    found = found_gamma(once(model), once(steered(model, base=base)))
    expected = gamma(estimate(MODEL, TARGET), estimate(MODEL, NEGATIVE if base == "negative" else POSITIVE))
    assert tiny_models.relative(found, expected) < CLOSE


PASSES = {
    "Perturbed-Attention Guidance": [[2, 1, 0], [0]],
    "Self-Attention Guidance": [[2, 1, 0], [0]],
    "Adaptive Projected Guidance": [[2, 1, 0]],
    "RescaleCFG": [[2, 1, 0]],
    "Normalized Attention Guidance": [[3, 2, 1, 0]],  # the base is an extra copy
}


@EACH
def test_the_passes_of_the_other_node_are_its_own(name):
    """One batched pass with positive at 0 and negative at 1; the passes behind it have no concept in them."""
    calls = tiny_models.recorded(NODES[name](MODEL))
    once(steered(calls.model))
    assert [call.conds for call in calls.seen] == PASSES[name]
    extra = calls.seen[-1].context
    if len(calls.seen) == 2:
        own = NEGATIVE if name == "Self-Attention Guidance" else POSITIVE
        assert torch.equal(extra, own[0][0])


@compat("Normalized Attention Guidance")
@pytest.mark.parametrize("base", ["negative", "positive"])
def test_nag_on_a_model_without_cfg(base):
    """Its own use: a guidance-distilled model at cfg 1. There it writes into the negative's chunk as well."""
    flux = family_models.flux()
    start, sigmas = flux.noise(), torch.tensor([0.8, 0.0])

    def x0(model, positive, negative=None):
        return tiny_models.sample_cfg(model, positive, negative, 1.0, start, sigmas)

    words = [[tiny_models.noise(1, 8, 16, seed=1003), {"pooled_output": tiny_models.noise(1, 8, seed=2003)}]]
    model = NODES["Normalized Attention Guidance"](flux.model)
    plain, edited = (
        x0(one, flux.positive, flux.negative) for one in (model, steered(model, chain(words, threshold=0.0), base))
    )
    assert tiny_models.relative(plain, x0(flux.model, flux.positive)) > ACTS
    origin = flux.positive if base == "positive" else flux.negative
    expected = SCALE * (x0(flux.model, origin) - x0(flux.model, words))  # added_term's, times σ
    assert tiny_models.relative(plain - edited, expected) < CLOSE


@pytest.mark.parametrize("base", ["negative", "positive"])
def test_a_step_that_easycache_skips_has_the_edit_of_the_one_before(base):
    """It keeps the last estimate of each conditioning by the host's mark of it. A base that is a copy, as beside NAG,
    has an estimate of its own."""
    model = EasyCacheNode.execute(NODES["Normalized Attention Guidance"](MODEL), 3.0, 0.0, 1.0, False).args[0]
    passes, after = [], []
    hook = MODEL.model.diffusion_model.time_embed.register_forward_hook(lambda *_: passes.append(1))

    def note(executor, *args):
        result = executor(*args)
        after.append(len(passes))
        return result

    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "test.note", note)
    latent = {"samples": torch.zeros_like(START)}
    arguments = (model, 3, 6, CFG, "euler", "normal", POSITIVE, NEGATIVE, latent)
    vectors = SEGASampler.execute(*arguments, base=base, concepts=chain()).args[2]
    hook.remove()
    skipped = [i for i in range(1, 6) if after[i] == after[i - 1]]
    assert 0 < len(skipped) < 5
    for i in range(1, 6):
        change = tiny_models.relative(vectors.gamma[i], vectors.gamma[i - 1])
        assert change < 1e-3 if i in skipped else change > ACTS
