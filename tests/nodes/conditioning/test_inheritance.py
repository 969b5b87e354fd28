"""What a concept takes over from the positive, so that the words are all they differ in."""

from __future__ import annotations

import comfy.controlnet
import comfy.hooks
import family_models
import node_helpers
import pytest
import tiny_models
import torch
from semantic_steering.nodes.host.conditioning.inherit import concept_conds

from nodes import ControlNetApply, ControlNetApplyAdvanced

POSITIVE, NEGATIVE, TARGET = tiny_models.stub_cond(1), tiny_models.stub_cond(2), tiny_models.stub_cond(3)
START, STEP = tiny_models.noise(1, *tiny_models.SIZE), torch.tensor([2.0, 0.0])
SCALE = 2.0


class FakeControlNet(comfy.controlnet.ControlBase):
    """Adds a constant to the estimate of whatever it is applied to."""

    def copy(self):
        other = FakeControlNet()
        self.copy_to(other)
        return other

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        return {"output": [torch.full_like(x_noisy, 10.0)]}


def run(positive, target, base="positive", cfg=4.0, negative=NEGATIVE):
    """γ of one Euler step, and the step's forward passes."""
    model = tiny_models.stub_model()
    calls = tiny_models.recorded(tiny_models.steer(model, tiny_models.concept(target, SCALE), base=base))
    plain, edited = (tiny_models.sample_cfg(m, positive, negative, cfg, START, STEP) for m in (model, calls.model))
    return tiny_models.added_term(plain, edited, STEP), calls


def test_the_positives_controlnet_applies_to_the_concept_too():
    image = torch.zeros(1, 48, 48, 3)
    positive, negative = ControlNetApplyAdvanced().apply_controlnet(
        POSITIVE, NEGATIVE, FakeControlNet(), image, 1.0, 0.0, 1.0
    )
    found, calls = run(positive, TARGET, negative=negative)
    expected = SCALE * (tiny_models.eps_of(TARGET) - tiny_models.eps_of(POSITIVE))  # the control's 10 is in both
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    (with_control,) = [call for call in calls.seen if call.control is not None and 0 in call.conds]
    assert 2 in with_control.conds  # one forward with the positive: the very same control
    negatives = [call for call in calls.seen if 1 in call.conds]
    assert all(call.control is not None for call in negatives)


def test_the_older_controlnet_node_applies_to_all_in_one_forward():
    (positive,) = ControlNetApply().apply_controlnet(POSITIVE, FakeControlNet(), torch.zeros(1, 48, 48, 3), 1.0)
    found, calls = run(positive, TARGET, base="negative")
    torch.testing.assert_close(
        found, SCALE * (tiny_models.eps_of(TARGET) - tiny_models.eps_of(NEGATIVE)), rtol=1e-3, atol=1e-3
    )
    assert calls.batches == [3]
    assert calls.seen[0].control is not None


@pytest.mark.parametrize(
    "context",
    [{"guidance": 3.5}, {"reference_latents": [torch.full((1, 4, 6, 6), 7.0)]}],
    ids=["guidance", "reference latents"],
)
def test_the_positives_context_reaches_the_concepts_estimate(context):
    """Both add a constant to the stub's estimate; shared, it cancels from the direction."""
    positive = tiny_models.stub_cond(1, **context)
    plain_target = SCALE * (tiny_models.eps_of(TARGET) - tiny_models.eps_of(POSITIVE))
    found, _ = run(positive, TARGET)
    torch.testing.assert_close(found, plain_target, rtol=1e-3, atol=1e-3)
    # the context does count: from the negative, which has none, it is part of the direction
    value = context.get("guidance", 7.0)
    from_negative, _ = run(positive, TARGET, base="negative")
    expected = SCALE * (tiny_models.eps_of(TARGET) + value - tiny_models.eps_of(NEGATIVE))
    torch.testing.assert_close(from_negative, expected, rtol=1e-3, atol=1e-3)


def test_a_concepts_own_context_is_kept():
    found, _ = run(tiny_models.stub_cond(1, guidance=3.5), tiny_models.stub_cond(3, guidance=1.0))
    expected = SCALE * (tiny_models.eps_of(TARGET) + 1.0 - tiny_models.eps_of(POSITIVE) - 3.5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


INHERITED = (
    "control", "control_apply_to_uncond", "guidance", "reference_latents", "reference_latents_method",
    "concat_latent_image", "concat_image", "concat_mask", "hooks",
    "width", "target_height", "clip_vision_output", "concat_mask_index", "vace_frames", "audio_embed", "frame_rate",
)  # fmt: skip


@pytest.mark.parametrize("key", INHERITED)
def test_every_kind_of_context_is_inherited(key):
    marker = object()
    (found,) = concept_conds(tiny_models.concept(TARGET), [{"cross_attn": POSITIVE[0][0], key: marker}])
    assert found[key] is marker


@pytest.mark.parametrize("key", [key for key in INHERITED if key != "hooks"])
def test_every_kind_of_context_of_its_own_wins(key):
    own, other = object(), object()
    (found,) = concept_conds(tiny_models.concept(tiny_models.stub_cond(3, **{key: own})), [{key: other}])
    assert found[key] is own


@pytest.mark.parametrize("key", ["area", "mask", "strength", "start_percent", "end_percent"])
def test_the_positives_limits_are_not_inherited(key):
    (found,) = concept_conds(tiny_models.concept(TARGET), [{key: 0.5}])
    assert key not in found


def test_a_concept_counts_as_a_positive_prompt():
    """Size conditioning of some models has a value of its own for negatives."""
    (found,) = concept_conds(tiny_models.concept(TARGET), [{}])
    assert found["prompt_type"] == "positive"


def test_the_conditioning_that_was_given_is_left_alone():
    given = tiny_models.stub_cond(3, area=(2, 2, 0, 0), strength=0.5, hooks="own")
    before = dict(given[0][1])
    concept_conds(tiny_models.concept(given), [{"guidance": 3.5, "hooks": "other"}])
    assert given[0][1] == before


def test_on_a_flux_a_concept_sees_the_positives_reference_picture():
    """As an edit model takes it. A concept that says the positive's words is then no direction."""
    flux = family_models.flux()
    reference, start = tiny_models.noise(1, *flux.shape, seed=5), flux.noise()
    positive = node_helpers.conditioning_set_values(flux.positive, {"reference_latents": [reference]})

    def end(given, *concepts):
        model = tiny_models.steer(flux.model, *concepts, momentum=0.1)
        return tiny_models.sample_cfg(model, given, given, 1.0, start, tiny_models.schedule(model, 3))

    plain = end(positive)
    assert tiny_models.relative(end(positive, tiny_models.concept(flux.positive, SCALE)), plain) < 1e-5
    assert tiny_models.relative(end(positive, tiny_models.concept(flux.negative, SCALE)), plain) > 0.01
    assert tiny_models.relative(end(flux.positive), plain) > 0.01  # the reference counts


def low_rank(model) -> dict[str, torch.Tensor]:
    """A LoRA on every attention to the text."""
    names = [name for name in model.model.state_dict() if name.endswith("attn2.to_v.weight")]
    lora = {}
    for i, name in enumerate(names):
        rows, columns = model.model.state_dict()[name].shape
        lora[name.replace(".weight", ".lora_up.weight")] = tiny_models.noise(rows, 2, seed=2 * i)
        lora[name.replace(".weight", ".lora_down.weight")] = tiny_models.noise(2, columns, seed=2 * i + 1)
    return lora


def test_the_positives_hooks_apply_to_the_concept_in_the_same_forward():
    model = tiny_models.unet_model()
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    hooks = comfy.hooks.create_hook_lora(low_rank(model), 1.0, 0.0)
    positive = comfy.hooks.set_hooks_for_conditioning(tiny_models.unet_cond(1), hooks)
    negative, start, sigmas = tiny_models.unet_cond(2), tiny_models.noise(1, 4, 8, 8), tiny_models.schedule(model, 2)
    calls = tiny_models.recorded(
        tiny_models.steer(model, tiny_models.concept(tiny_models.unet_cond(3), SCALE, 0.5), base="positive")
    )
    edited = tiny_models.sample_cfg(calls.model, positive, negative, 4.0, start, sigmas)
    assert sorted(tuple(sorted(call.conds)) for call in calls.seen) == [(0, 2), (0, 2), (1,), (1,)]
    plain = tiny_models.sample_cfg(model, positive, negative, 4.0, start, sigmas)
    assert tiny_models.relative(edited, plain) > 1e-3
    # a concept that says the positive's words is no direction, so it must have seen the hooked weights
    same = tiny_models.steer(model, tiny_models.concept(tiny_models.unet_cond(1), SCALE), base="positive")
    assert tiny_models.relative(tiny_models.sample_cfg(same, positive, negative, 4.0, start, sigmas), plain) < 1e-4
    unhooked = tiny_models.sample_cfg(model, tiny_models.unet_cond(1), negative, 4.0, start, sigmas)
    assert tiny_models.relative(unhooked, plain) > 0.01  # the hook does something
    assert all(torch.equal(before[name], value) for name, value in model.model.state_dict().items())


def test_hooks_of_a_concepts_own_are_dropped_for_the_positives():
    """The host registers hooks before this run's concepts are known; its own would silently do nothing."""
    (found,) = concept_conds(tiny_models.concept(tiny_models.stub_cond(3, hooks="own")), [{"hooks": "the positive's"}])
    assert found["hooks"] == "the positive's"
    (found,) = concept_conds(tiny_models.concept(tiny_models.stub_cond(3, hooks="own")), [{}])
    assert "hooks" not in found
