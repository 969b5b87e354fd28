"""A concept in the context of the picture's prompt: 'prompt, concept' against the positive, at any cfg."""

from __future__ import annotations

import pytest
import slow_sega as slow
import tiny_models
import torch
from semantic_steering.nodes.sega import SEGAConcept, SEGAConceptConditioning, SEGAGuidance, SEGASweep

from nodes import ConditioningConcat

POSITIVE, NEGATIVE = tiny_models.stub_cond(1), tiny_models.stub_cond(2)
START, STEP = tiny_models.noise(1, *tiny_models.SIZE), torch.tensor([2.0, 0.0])
SCALE = 2.0


class Clip:
    """The stub's text encoder: each text is a field of its own."""

    def __init__(self):
        self.texts: list[str] = []

    def tokenize(self, text):
        self.texts.append(text)
        return text

    def encode_from_tokens_scheduled(self, tokens):
        return self.field(tokens)

    @staticmethod
    def field(text):
        return tiny_models.stub_cond(sum(map(ord, text)))


def concepts(**options):
    settings = {"scale": SCALE, "threshold": 0.0, "start_percent": 0.0, **options}
    return SEGAConcept.execute(Clip(), "glasses", **settings).args[0]


def term(chain, cfg=4.0, negative=NEGATIVE, **options):
    model = tiny_models.stub_model()
    steered = SEGAGuidance.execute(model, chain, **options).args[0]
    calls = tiny_models.recorded(steered)
    plain, edited = (tiny_models.sample_cfg(m, POSITIVE, negative, cfg, START, STEP) for m in (model, calls.model))
    return tiny_models.added_term(plain, edited, STEP), calls


def direction(text, base):
    return tiny_models.eps_of(Clip.field(text)) - tiny_models.eps_of(base)


@pytest.mark.parametrize(("cfg", "batch"), [(4.0, 3), (1.0, 2)])
@pytest.mark.parametrize("base", ["auto", "negative", "positive"])
def test_it_is_prompt_and_text_against_the_positive_at_any_cfg_and_base(cfg, batch, base):
    found, calls = term(concepts(prompt="a portrait"), cfg, base=base)
    expected = SCALE * direction("a portrait, glasses", POSITIVE)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert calls.batches == [batch]


@pytest.mark.parametrize("prompt", ["a portrait", "a portrait,", "  a portrait ,  ", "a portrait\n"])
def test_the_two_texts_are_joined_by_one_comma(prompt):
    clip = Clip()
    (entry,) = SEGAConcept.execute(clip, "glasses", prompt=prompt).args[0]
    assert clip.texts == ["a portrait, glasses"]
    assert entry.in_prompt
    assert entry.name == "glasses"  # which is what the verdict and the tiles say


@pytest.mark.parametrize("prompt", ["", "  ", "\n"])
def test_without_a_prompt_it_is_the_papers_bare_text(prompt):
    bare, empty = concepts(), concepts(prompt=prompt)
    assert not empty[0].in_prompt
    assert torch.equal(term(bare)[0], term(empty)[0])
    torch.testing.assert_close(term(bare)[0], SCALE * direction("glasses", NEGATIVE), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("cfg", "base", "batch"), [(4.0, NEGATIVE, 4), (1.0, POSITIVE, 3)])
def test_each_concept_of_a_chain_has_its_own_base(cfg, base, batch):
    chain = SEGAConcept.execute(
        Clip(), "smile", scale=-1.5, threshold=0.0, start_percent=0.0, concepts=concepts(prompt="a portrait")
    ).args[0]
    found, calls = term(chain, cfg)
    expected = SCALE * direction("a portrait, glasses", POSITIVE) - 1.5 * direction("smile", base)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert calls.batches == [batch]  # positive, negative (not at cfg 1), both concepts: the bases are among them


def test_a_concept_that_adds_nothing_to_the_prompt_is_no_edit():
    words = Clip.field("a portrait, glasses")
    model = tiny_models.stub_model()
    steered = SEGAGuidance.execute(model, concepts(prompt="a portrait")).args[0]
    plain, edited = (tiny_models.sample_cfg(m, words, NEGATIVE, 4.0, START, STEP) for m in (model, steered))
    assert torch.equal(plain, edited)


def test_a_sweep_keeps_the_concepts_context():
    latent = {"samples": torch.zeros(1, *tiny_models.SIZE)}
    swept = SEGASweep.execute(concepts(prompt="a portrait"), latent, "-1, 0, 2").args[0]
    assert swept[0].in_prompt
    start = START.repeat(3, 1, 1, 1)
    model = tiny_models.stub_model()
    steered = SEGAGuidance.execute(model, swept).args[0]
    plain, edited = (tiny_models.sample_cfg(m, POSITIVE, NEGATIVE, 4.0, start, STEP) for m in (model, steered))
    found = tiny_models.added_term(plain, edited, STEP)
    for picture, scale in zip(found, (-1.0, 0.0, 2.0), strict=True):
        expected = scale * direction("a portrait, glasses", POSITIVE)[0]
        torch.testing.assert_close(picture, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("masked", [False, True])
def test_a_threshold_by_position_keeps_the_same_positions_in_all_channels(masked):
    mask = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(5)).round() if masked else None
    found, _ = term(concepts(prompt="a portrait", threshold=0.7, mask=mask), threshold_over="position")
    psi = direction("a portrait, glasses", POSITIVE).double().numpy()
    inside = None if mask is None else mask[:, None].double().numpy()
    expected = torch.from_numpy(SCALE * slow.keep(psi, 0.7, "position", inside)).float()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    kept = (found != 0).float().mean(1)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert kept.sum() == (11 if mask is None else int(mask.sum()) - int(0.7 * (int(mask.sum()) - 1) + 0.999))


class TestConditionings:
    """The concept's tokens after the prompt's, as ComfyUI's Conditioning (Concat) joins them."""

    def joined(self, prompt, concept, **options):
        return SEGAConceptConditioning.execute(concept, scale=SCALE, prompt=prompt, **options).args[0]

    def test_the_tokens_are_those_of_the_hosts_concat(self):
        prompt, concept = tiny_models.unet_cond(1, 5), tiny_models.unet_cond(3, 3)
        (entry,) = self.joined(prompt, concept)
        (expected,) = ConditioningConcat().concat(prompt, concept)
        assert torch.equal(entry.conditioning[0][0], expected[0][0])
        assert entry.in_prompt

    def test_pooled_words_are_the_prompts_and_limits_the_concepts(self):
        prompt = tiny_models.unet_cond(1, pooled_output="prompt's", strength=0.3, control="the prompt's")
        concept = tiny_models.unet_cond(3, pooled_output="concept's", strength=0.5, guidance=2.0)
        (entry,) = self.joined(prompt, concept)
        assert entry.conditioning[0][1] == {"pooled_output": "prompt's", "strength": 0.5, "guidance": 2.0}

    @pytest.mark.parametrize("whose", [(True, True), (True, False), (False, True)])
    def test_masks_of_tokens_are_joined(self, whose):
        given = [{"attention_mask": torch.tensor([[1, 1, 1, 0]])} if has else {} for has in whose]
        prompt, concept = tiny_models.unet_cond(1, **given[0]), tiny_models.unet_cond(3, **given[1])
        (entry,) = self.joined(prompt, concept)
        assert entry.conditioning[0][1]["attention_mask"].tolist() == [
            [1, 1, 1, int(not whose[0]), 1, 1, 1, int(not whose[1])]
        ]

    def test_it_starts_from_the_positive(self):
        model, positive = tiny_models.unet_model(), tiny_models.unet_cond(1)
        start, sigmas = tiny_models.noise(1, 4, 8, 8), torch.tensor([2.0, 0.0])
        concept = self.joined(positive, tiny_models.unet_cond(3), threshold=0.0, start_percent=0.0)

        def estimate(cond):
            """The plain model's own, from a run of one step to 0."""
            return tiny_models.sample_cfg(model, cond, None, 1.0, start, sigmas)

        both = [[torch.cat([positive[0][0], tiny_models.unet_cond(3)[0][0]], dim=1), {}]]
        expected = SCALE * (estimate(positive) - estimate(both)) / sigmas[0]
        for cfg in (4.0, 1.0):
            steered = SEGAGuidance.execute(model, concept).args[0]
            plain, edited = (
                tiny_models.sample_cfg(m, positive, tiny_models.unet_cond(2), cfg, start, sigmas)
                for m in (model, steered)
            )
            assert tiny_models.relative(tiny_models.added_term(plain, edited, sigmas), expected) < 1e-4

    @pytest.mark.parametrize(
        ("prompt", "words"),
        [
            ([], "prompt is empty"),
            ([[torch.zeros(1, 4, 8), {}]], "prompt has 8 text features"),
            ([[None, {}]], "no tokens"),
        ],
    )
    def test_what_cannot_be_joined_is_refused(self, prompt, words):
        with pytest.raises(ValueError, match=words):
            self.joined(prompt, tiny_models.unet_cond(3))


def test_texts_of_batches_that_differ_are_refused():
    """The host's own Concat fails there inside torch."""
    two = [[torch.cat([tokens, tokens]), dict(options)] for tokens, options in tiny_models.unet_cond(3)]
    with pytest.raises(ValueError, match="prompt is a batch of 2 texts, conditioning one of 1"):
        SEGAConceptConditioning.execute(tiny_models.unet_cond(1), prompt=two)
