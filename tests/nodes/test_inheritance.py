"""What a concept takes over from the positive, so that the words are all they differ in."""

from __future__ import annotations

import comfy.controlnet
import comfy.hooks
import families
import node_helpers
import pytest
import tiny
import torch
from semantic_steering.nodes.host.conditioning import concept_conds

from nodes import ControlNetApply, ControlNetApplyAdvanced

POSITIVE, NEGATIVE, TARGET = tiny.stub_cond(1), tiny.stub_cond(2), tiny.stub_cond(3)
START, STEP = tiny.noise(1, *tiny.SIZE), torch.tensor([2.0, 0.0])
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
    model = tiny.stub_model()
    calls = tiny.recorded(tiny.steer(model, tiny.concept(target, SCALE), base=base))
    plain, edited = (tiny.sample_cfg(m, positive, negative, cfg, START, STEP) for m in (model, calls.model))
    return tiny.added_term(plain, edited, STEP), calls


def test_the_positives_controlnet_applies_to_the_concept_too():
    image = torch.zeros(1, 48, 48, 3)
    positive, negative = ControlNetApplyAdvanced().apply_controlnet(
        POSITIVE, NEGATIVE, FakeControlNet(), image, 1.0, 0.0, 1.0
    )
    found, calls = run(positive, TARGET, negative=negative)
    expected = SCALE * (tiny.eps_of(TARGET) - tiny.eps_of(POSITIVE))  # the control's 10 is in both
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    (with_control,) = [call for call in calls.seen if call.control is not None and 0 in call.conds]
    assert 2 in with_control.conds  # one forward with the positive: the very same control
    negatives = [call for call in calls.seen if 1 in call.conds]
    assert all(call.control is not None for call in negatives)


def test_the_older_controlnet_node_applies_to_all_in_one_forward():
    (positive,) = ControlNetApply().apply_controlnet(POSITIVE, FakeControlNet(), torch.zeros(1, 48, 48, 3), 1.0)
    found, calls = run(positive, TARGET, base="negative")
    torch.testing.assert_close(found, SCALE * (tiny.eps_of(TARGET) - tiny.eps_of(NEGATIVE)), rtol=1e-3, atol=1e-3)
    assert calls.batches == [3]
    assert calls.seen[0].control is not None


@pytest.mark.parametrize(
    "context",
    [{"guidance": 3.5}, {"reference_latents": [torch.full((1, 4, 6, 6), 7.0)]}],
    ids=["guidance", "reference latents"],
)
def test_the_positives_context_reaches_the_concepts_estimate(context):
    """Both add a constant to the stub's estimate; shared, it cancels from the direction."""
    positive = tiny.stub_cond(1, **context)
    plain_target = SCALE * (tiny.eps_of(TARGET) - tiny.eps_of(POSITIVE))
    found, _ = run(positive, TARGET)
    torch.testing.assert_close(found, plain_target, rtol=1e-3, atol=1e-3)
    # the context does count: from the negative, which has none, it is part of the direction
    value = context.get("guidance", 7.0)
    from_negative, _ = run(positive, TARGET, base="negative")
    expected = SCALE * (tiny.eps_of(TARGET) + value - tiny.eps_of(NEGATIVE))
    torch.testing.assert_close(from_negative, expected, rtol=1e-3, atol=1e-3)


def test_a_concepts_own_context_is_kept():
    found, _ = run(tiny.stub_cond(1, guidance=3.5), tiny.stub_cond(3, guidance=1.0))
    expected = SCALE * (tiny.eps_of(TARGET) + 1.0 - tiny.eps_of(POSITIVE) - 3.5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


INHERITED = (
    "control", "control_apply_to_uncond", "guidance", "reference_latents", "reference_latents_method",
    "concat_latent_image", "concat_image", "concat_mask", "hooks",
    "width", "target_height", "clip_vision_output", "concat_mask_index", "vace_frames", "audio_embed", "frame_rate",
)  # fmt: skip


@pytest.mark.parametrize("key", INHERITED)
def test_every_kind_of_context_is_inherited(key):
    marker = object()
    (found,) = concept_conds(tiny.concept(TARGET), [{"cross_attn": POSITIVE[0][0], key: marker}])
    assert found[key] is marker


@pytest.mark.parametrize("key", [key for key in INHERITED if key != "hooks"])
def test_every_kind_of_context_of_its_own_wins(key):
    own, other = object(), object()
    (found,) = concept_conds(tiny.concept(tiny.stub_cond(3, **{key: own})), [{key: other}])
    assert found[key] is own


@pytest.mark.parametrize("key", ["area", "mask", "strength", "start_percent", "end_percent"])
def test_the_positives_limits_are_not_inherited(key):
    (found,) = concept_conds(tiny.concept(TARGET), [{key: 0.5}])
    assert key not in found


def test_a_concept_counts_as_a_positive_prompt():
    """Size conditioning of some models has a value of its own for negatives."""
    (found,) = concept_conds(tiny.concept(TARGET), [{}])
    assert found["prompt_type"] == "positive"


def test_the_conditioning_that_was_given_is_left_alone():
    given = tiny.stub_cond(3, area=(2, 2, 0, 0), strength=0.5, hooks="own")
    before = dict(given[0][1])
    concept_conds(tiny.concept(given), [{"guidance": 3.5, "hooks": "other"}])
    assert given[0][1] == before


def test_on_a_flux_a_concept_sees_the_positives_reference_picture():
    """As an edit model takes it. A concept that says the positive's words is then no direction."""
    flux = families.flux()
    reference, start = tiny.noise(1, *flux.shape, seed=5), flux.noise()
    positive = node_helpers.conditioning_set_values(flux.positive, {"reference_latents": [reference]})

    def end(given, *concepts):
        model = tiny.steer(flux.model, *concepts, momentum=0.1)
        return tiny.sample_cfg(model, given, given, 1.0, start, tiny.schedule(model, 3))

    plain = end(positive)
    assert tiny.relative(end(positive, tiny.concept(flux.positive, SCALE)), plain) < 1e-5
    assert tiny.relative(end(positive, tiny.concept(flux.negative, SCALE)), plain) > 0.01
    assert tiny.relative(end(flux.positive), plain) > 0.01  # the reference counts


def low_rank(model) -> dict[str, torch.Tensor]:
    """A LoRA on every attention to the text."""
    names = [name for name in model.model.state_dict() if name.endswith("attn2.to_v.weight")]
    lora = {}
    for i, name in enumerate(names):
        rows, columns = model.model.state_dict()[name].shape
        lora[name.replace(".weight", ".lora_up.weight")] = tiny.noise(rows, 2, seed=2 * i)
        lora[name.replace(".weight", ".lora_down.weight")] = tiny.noise(2, columns, seed=2 * i + 1)
    return lora


def test_the_positives_hooks_apply_to_the_concept_in_the_same_forward():
    model = tiny.unet_model()
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    hooks = comfy.hooks.create_hook_lora(low_rank(model), 1.0, 0.0)
    positive = comfy.hooks.set_hooks_for_conditioning(tiny.unet_cond(1), hooks)
    negative, start, sigmas = tiny.unet_cond(2), tiny.noise(1, 4, 8, 8), tiny.schedule(model, 2)
    calls = tiny.recorded(tiny.steer(model, tiny.concept(tiny.unet_cond(3), SCALE, 0.5), base="positive"))
    edited = tiny.sample_cfg(calls.model, positive, negative, 4.0, start, sigmas)
    assert sorted(tuple(sorted(call.conds)) for call in calls.seen) == [(0, 2), (0, 2), (1,), (1,)]
    plain = tiny.sample_cfg(model, positive, negative, 4.0, start, sigmas)
    assert tiny.relative(edited, plain) > 1e-3
    # a concept that says the positive's words is no direction, so it must have seen the hooked weights
    same = tiny.steer(model, tiny.concept(tiny.unet_cond(1), SCALE), base="positive")
    assert tiny.relative(tiny.sample_cfg(same, positive, negative, 4.0, start, sigmas), plain) < 1e-4
    unhooked = tiny.sample_cfg(model, tiny.unet_cond(1), negative, 4.0, start, sigmas)
    assert tiny.relative(unhooked, plain) > 0.01  # the hook does something
    assert all(torch.equal(before[name], value) for name, value in model.model.state_dict().items())


def test_hooks_of_a_concepts_own_are_dropped_for_the_positives():
    """The host registers hooks before this run's concepts are known; its own would silently do nothing."""
    (found,) = concept_conds(tiny.concept(tiny.stub_cond(3, hooks="own")), [{"hooks": "the positive's"}])
    assert found["hooks"] == "the positive's"
    (found,) = concept_conds(tiny.concept(tiny.stub_cond(3, hooks="own")), [{}])
    assert "hooks" not in found
