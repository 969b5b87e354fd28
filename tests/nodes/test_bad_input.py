"""A wrong input is refused before sampling starts, by an error that says which, why and what to do."""

from __future__ import annotations

import math

import comfy.nested_tensor
import comfy.samplers
import pytest
import tiny_models
import torch
from semantic_steering.nodes.host.conditioning.checks import check_latent
from semantic_steering.nodes.sega import SEGAConcept, SEGAConceptConditioning, SEGAGuidance, SEGASampler

POSITIVE, NEGATIVE, TARGET = tiny_models.stub_cond(1), tiny_models.stub_cond(2), tiny_models.stub_cond(3)
LATENT = {"samples": torch.zeros(1, *tiny_models.SIZE)}
NOT_NUMBERS = [math.nan, math.inf, -math.inf]


class FakeClip:
    """Encodes every text as the same field."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, tokens):
        return TARGET


def sega_sampler(model, latent=LATENT, positive=POSITIVE, negative=NEGATIVE, **options):
    given = {"seed": 1, "steps": 3, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", **options}
    return SEGASampler.execute(model, positive=positive, negative=negative, latent_image=latent, **given)


def refused(message, calls, **options):
    """The SEGA Sampler raises, and the model was never evaluated."""
    with pytest.raises(ValueError, match=message):
        sega_sampler(calls.model, **options)
    assert calls.seen == []


@pytest.fixture
def calls():
    return tiny_models.recorded(tiny_models.stub_model())


def test_a_latent_without_height_and_width(calls):
    """Sound: no activity map and no mask can be drawn on it; without these it is steered like any other."""
    model = calls.model
    with pytest.raises(ValueError, match=r"without height and width.*use SEGA Guidance"):
        check_latent(model, [torch.Size([1, 4, 32])], pictures=True)
    check_latent(model, [torch.Size([1, 4, 32])])


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_text(text):
    with pytest.raises(ValueError, match="text is empty; write what should change"):
        SEGAConcept.execute(FakeClip(), text)


def test_a_checkpoint_without_a_text_encoder():
    with pytest.raises(ValueError, match=r"clip is missing.*connect a CLIP loader"):
        SEGAConcept.execute(None, "glasses")


def test_an_empty_conditioning():
    with pytest.raises(ValueError, match="conditioning is empty; connect a CLIP Text Encode"):
        SEGAConceptConditioning.execute([])


CONCEPT_NODES = [
    lambda **options: SEGAConcept.execute(FakeClip(), "glasses", **options),
    lambda **options: SEGAConceptConditioning.execute(TARGET, **options),
]


@pytest.mark.parametrize("node", CONCEPT_NODES, ids=["SEGAConcept", "SEGAConceptConditioning"])
class TestConceptNodes:
    def test_a_window_that_starts_after_its_end(self, node):
        with pytest.raises(ValueError, match=r"starts after its end: start_percent 0\.6 > end_percent 0\.5.*lower"):
            node(start_percent=0.6, end_percent=0.5)

    @pytest.mark.parametrize("value", NOT_NUMBERS)
    @pytest.mark.parametrize("name", ["scale", "start_percent", "threshold", "end_percent"])
    def test_a_value_that_is_no_number(self, node, name, value):
        with pytest.raises(ValueError, match=rf"{name} is -?{value}".replace("--?", "-")):
            node(**{name: value})

    @pytest.mark.parametrize(
        ("name", "value"),
        [("threshold", -0.1), ("threshold", 1.1), ("start_percent", -0.1), ("end_percent", 1.1)],
    )
    def test_a_share_outside_0_to_1(self, node, name, value):
        with pytest.raises(ValueError, match=rf"{name} is {value}; it must be a number from 0 to 1"):
            node(**{name: value})

    def test_an_unknown_direction(self, node):
        with pytest.raises(ValueError, match="direction is 'sideways'; it must be add or remove"):
            node(direction="sideways")

    def test_a_mask_with_nan(self, node):
        with pytest.raises(ValueError, match="mask holds NaN"):
            node(mask=torch.full((1, 8, 8), math.nan))

    def test_a_seventeenth_concept(self, node):
        concepts = None
        for _ in range(16):
            (concepts,) = node(concepts=concepts).args
        assert len(concepts) == 16
        with pytest.raises(ValueError, match=r"17 concepts are chained; at most 16.*Remove some"):
            node(concepts=concepts)


@pytest.mark.parametrize("concepts", [None, (tiny_models.concept(TARGET),)], ids=["unconnected", "one concept"])
class TestSettings:
    """Checked even where no concept is connected: a wrong number must not wait for the day one is."""

    @pytest.mark.parametrize("value", [*NOT_NUMBERS, -0.1, 1.1])
    @pytest.mark.parametrize("name", ["momentum_scale", "momentum_beta"])
    def test_momentum(self, name, value, concepts, calls):
        with pytest.raises(ValueError, match=f"{name} is {value}; it must be"):
            SEGAGuidance.execute(calls.model, concepts, **{name: value})
        refused(f"{name} is {value}; it must be", calls, concepts=concepts, **{name: value})

    def test_a_momentum_that_never_forgets(self, concepts, calls):
        refused("momentum_beta is 1.0; it must be at least 0 and below 1", calls, concepts=concepts, momentum_beta=1.0)

    @pytest.mark.parametrize("value", NOT_NUMBERS)
    @pytest.mark.parametrize("name", ["cfg", "denoise"])
    def test_the_samplers_own_numbers(self, name, value, concepts, calls):
        refused(f"{name} is {value}; it must be a finite number", calls, concepts=concepts, **{name: value})

    @pytest.mark.parametrize("steps", [0, -1])
    def test_less_than_one_step(self, steps, concepts, calls):
        refused(rf"steps is {steps}; it must be at least 1", calls, concepts=concepts, steps=steps)

    def test_a_denoise_that_would_fill_the_memory(self, concepts, calls):
        said = r"denoise is 1e-09: \d+ steps of it are the end of a schedule of .*e\+\d+, more than 1,000,000\. Raise"
        refused(said, calls, concepts=concepts, denoise=1e-9)

    def test_unknown_choices(self, concepts, calls):
        refused("base is 'empty'; it must be auto, negative or positive", calls, concepts=concepts, base="empty")
        refused(
            "threshold_over is 'all'; it must be channel, latent or position",
            calls,
            concepts=concepts,
            threshold_over="all",
        )


def test_a_concept_of_another_model_family_is_refused_with_both_widths():
    calls = tiny_models.recorded(tiny_models.unet_model())
    other = [[tiny_models.noise(1, 4, 24), {}]]
    concepts = (tiny_models.concept(tiny_models.unet_cond(1)), tiny_models.concept(other))
    message = r"concept 'test': its conditioning has 24 text features, the positive has 16.*Connect the CLIP"
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    refused(
        message,
        calls,
        latent=latent,
        positive=tiny_models.unet_cond(2),
        negative=tiny_models.unet_cond(3),
        concepts=concepts,
    )


def test_a_pooled_vector_of_another_width_is_refused_too(calls):
    concept = tiny_models.concept(tiny_models.stub_cond(3, pooled_output=torch.zeros(1, 768)))
    positive = tiny_models.stub_cond(1, pooled_output=torch.zeros(1, 1280))
    refused(r"has 768 pooled text features, the positive has 1280", calls, positive=positive, concepts=(concept,))


def test_a_picture_of_another_model_family_is_refused_with_both_channel_counts(calls):
    latent = {"samples": tiny_models.noise(1, 16, 6, 6)}
    message = (
        r"latent_image has 16 channels, this model's latents have 4.*Encode the picture with this checkpoint's VAE"
    )
    refused(message, calls, latent=latent, concepts=(tiny_models.concept(TARGET),))


def test_an_empty_latent_of_another_family_is_what_the_host_makes_of_it(calls):
    latent = {"samples": torch.zeros(1, 16, 6, 6)}
    result, *_ = sega_sampler(calls.model, latent, concepts=(tiny_models.concept(TARGET),)).args
    assert result["samples"].shape == (1, 4, 6, 6)


def test_a_packed_latent(calls):
    nested = comfy.nested_tensor.NestedTensor([torch.zeros(1, *tiny_models.SIZE), torch.zeros(1, 8, 10)])
    message = r"cannot steer a packed latent \(2 parts.*Sample the parts separately, or remove SEGA"
    refused(message, calls, latent={"samples": nested}, concepts=(tiny_models.concept(TARGET),))


def test_after_a_refusal_a_good_run_is_as_if_nothing_had_happened(calls):
    good = {"concepts": (tiny_models.concept(TARGET),)}
    first, *_ = sega_sampler(calls.model, **good).args
    with pytest.raises(ValueError, match="latent_image has 16 channels"):
        sega_sampler(calls.model, {"samples": tiny_models.noise(1, 16, 6, 6)}, **good)
    second, *_ = sega_sampler(calls.model, **good).args
    assert torch.equal(first["samples"], second["samples"])


def test_sixteen_concepts_run(calls):
    concepts = tuple(tiny_models.concept(tiny_models.stub_cond(20 + i), 1.0, 0.9) for i in range(16))
    _, activity, *_ = sega_sampler(calls.model, concepts=concepts).args
    assert calls.batches == [18] * 3
    assert all(activity[i].any() for i in range(16))
