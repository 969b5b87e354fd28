"""SEGA beside what users put around a sampler: control, regions, LoRAs, image prompts, CFG++ samplers, crops."""

from __future__ import annotations

import pytest
import tiny
import torch
from combining import (
    CLOSE,
    MODEL,
    NEGATIVE,
    POSITIVE,
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
from comfy.ldm.modules.attention import optimized_attention

IMAGE_PROMPT = compat("IP-Adapter, InstantID, PuLID (attention patches)")


class ImagePrompt:
    """A patch like IP-Adapter's: tokens of a picture for positive's chunks, others for the negative's, by index."""

    def __init__(self):
        self.tokens = [tiny.noise(1, 3, 64, seed=50), torch.zeros(1, 3, 64)]
        self.seen: list[list[int]] = []

    def __call__(self, q, k, v, extra_options):
        places = extra_options["cond_or_uncond"]
        self.seen.append(list(places))
        rows = len(q) // len(places)
        tokens = torch.cat([self.tokens[place].repeat(rows, 1, 1) for place in places])
        heads = extra_options["n_heads"]
        return optimized_attention(q, k, v, heads) + optimized_attention(q, tokens, tokens, heads)


def with_image_prompt(model):
    model, patch = model.clone(), ImagePrompt()
    model.set_model_attn2_replace(patch, "middle", 0)
    return model, patch


class TestImagePrompts:
    """Such patches know two places, 0 and 1; a third is an IndexError in all the packs that do it like this."""

    pytestmark = [IMAGE_PROMPT]  # noqa: RUF012

    def test_beside(self):
        assert_beside(with_image_prompt(MODEL)[0], run(MODEL))

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
        assert tiny.relative(found, expected) < CLOSE

    def test_several_concepts_and_a_base_of_their_own(self):
        """The negative is limited, so the base is a copy, in the negative's place like the concepts."""
        model, patch = with_image_prompt(MODEL)
        limited = [[NEGATIVE[0][0], {"start_percent": 0.0, "end_percent": 0.2}]]
        second = tiny.unet_cond(4)
        steers = steered(model, chain(second, concepts=chain()))
        plain = once(model, negative=limited)
        patch.seen.clear()
        found = found_gamma(plain, once(steers, negative=limited))
        assert patch.seen == [[0], [1], [1], [1]]
        alone, patch_alone = with_image_prompt(MODEL)
        patch_alone.tokens[0] = patch.tokens[1]
        base = estimate(alone, NEGATIVE)
        expected = gamma(estimate(alone, TARGET), base) + gamma(estimate(alone, second), base)
        assert tiny.relative(found, expected) < CLOSE
