"""Concept and base differ in words alone: whatever else one of them has, the other has too."""

from __future__ import annotations

import re
from pathlib import Path

import comfy.controlnet
import comfy.hooks
import comfy.sd1_clip
import family_models
import node_helpers
import pytest
import tiny_models
import torch
from semantic_steering.nodes.host.conditioning.context import WORDS, concept_conds, context_of, differences
from semantic_steering.nodes.host.sega.patch import patch_model
from semantic_steering.nodes.host.sega.settings import SEGASettings

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


@pytest.mark.parametrize("base", ["positive", "negative"])
def test_a_control_on_the_positive_alone_is_on_both_sides(base):
    """Right value: the direction of the host's own pair, which has the control on both."""
    image, control = torch.zeros(1, 48, 48, 3), FakeControlNet()
    pair = ControlNetApplyAdvanced().apply_controlnet(POSITIVE, NEGATIVE, control, image, 1.0, 0.0, 1.0)
    expected, _ = run(pair[0], TARGET, base=base, negative=pair[1])
    found, calls = run(pair[0], TARGET, base=base)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert sum(calls.batches) == 3 + (base == "negative")


def test_the_older_controlnet_node_applies_to_all_in_one_forward():
    (positive,) = ControlNetApply().apply_controlnet(POSITIVE, FakeControlNet(), torch.zeros(1, 48, 48, 3), 1.0)
    found, calls = run(positive, TARGET, base="negative")
    torch.testing.assert_close(
        found, SCALE * (tiny_models.eps_of(TARGET) - tiny_models.eps_of(NEGATIVE)), rtol=1e-3, atol=1e-3
    )
    assert calls.batches == [3]
    assert calls.seen[0].control is not None


REFERENCE = torch.full((1, 4, 6, 6), 7.0)
CONTEXTS = {
    "guidance": {"guidance": 3.5},
    "reference latents": {"reference_latents": [REFERENCE]},
    "a key that nobody knows": {"of_another_pack": object(), "guidance": 3.5},
}
DIFFERENCE = {"positive": POSITIVE, "negative": NEGATIVE}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
@pytest.mark.parametrize("base", DIFFERENCE)
@pytest.mark.parametrize("whose", ["positive's", "negative's", "both"])
def test_a_direction_is_a_difference_of_words(context, base, whose):
    """Each context adds a constant to the stub's estimate, which is nowhere in the direction."""
    positive = tiny_models.stub_cond(1, **(context if whose != "negative's" else {}))
    negative = tiny_models.stub_cond(2, **(context if whose != "positive's" else {}))
    found, calls = run(positive, TARGET, base=base, negative=negative)
    expected = SCALE * (tiny_models.eps_of(TARGET) - tiny_models.eps_of(DIFFERENCE[base]))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    again = base == "negative" and whose != "both"  # one more evaluation only where it is needed
    assert sum(calls.batches) == 3 + again


@pytest.mark.parametrize("base", DIFFERENCE)
def test_a_concepts_own_context_is_kept_and_the_bases_too(base):
    target, positive = tiny_models.stub_cond(3, guidance=1.0), tiny_models.stub_cond(1, guidance=3.5)
    found, calls = run(positive, target, base=base)
    expected = SCALE * (tiny_models.eps_of(TARGET) - tiny_models.eps_of(DIFFERENCE[base]))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    given = [value for call in calls.seen for value in call.extra.get("guidance", torch.empty(0)).tolist()]
    assert sorted(given) == [1.0, 1.0, 3.5]  # concept and base, and the positive


def test_equal_values_are_one_context_whoever_made_them():
    reference = [REFERENCE, (1, "a", {"b": torch.ones(2)})]
    positive = tiny_models.stub_cond(1, reference_latents=[REFERENCE.clone()], other=reference)
    again = [REFERENCE.clone(), (1, "a", {"b": torch.ones(2)})]
    negative = tiny_models.stub_cond(2, reference_latents=[REFERENCE.clone()], other=again)
    _, calls = run(positive, TARGET, base="negative", negative=negative)
    assert sum(calls.batches) == 3


@pytest.mark.parametrize("one", [3.5, "a", None, torch.ones(2), [torch.ones(2)], (1,), {"a": 1}, object()])
@pytest.mark.parametrize("other", [3.0, "b", None, torch.ones(3), torch.zeros(2), [torch.zeros(2)], (2,), {"a": 2}])
def test_other_values_are_another_context(one, other):
    assert differences({"key": one}, {"key": one}) == []
    assert differences({"key": one}, {"key": other}) == ([] if one is other is None else ["key"])


def test_concepts_that_share_a_context_share_the_base():
    positive = tiny_models.stub_cond(1, guidance=3.5)
    targets = [tiny_models.concept(tiny_models.stub_cond(seed), SCALE) for seed in (3, 4, 5)]
    calls = tiny_models.recorded(tiny_models.steer(tiny_models.stub_model(), *targets))
    tiny_models.sample_cfg(calls.model, positive, NEGATIVE, 4.0, START, STEP)
    assert sum(calls.batches) == 2 + 1 + 3


def test_the_verdict_says_why_there_is_one_evaluation_more():
    said = []
    model = patch_model(
        tiny_models.stub_model(), (tiny_models.concept(TARGET, SCALE),), SEGASettings(), lambda run: said.append(run)
    )
    positive = tiny_models.stub_cond(1, guidance=3.5)
    tiny_models.sample_cfg(model, positive, NEGATIVE, 4.0, START, STEP)
    assert "the negative is evaluated once more, with the guidance of the concepts" in said[0].verdict()
    tiny_models.sample_cfg(model, positive, tiny_models.stub_cond(2, guidance=3.5), 4.0, START, STEP)
    assert "once more" not in said[1].verdict()


@pytest.mark.parametrize("base", DIFFERENCE)
def test_two_positives_at_once_with_contexts_of_their_own(base):
    """The concept takes the first one's; the base is both texts in that."""
    positive = [*tiny_models.stub_cond(1), *tiny_models.stub_cond(4, guidance=3.5)]
    found, _ = run(positive, TARGET, base=base)
    both = (tiny_models.eps_of(POSITIVE) + tiny_models.eps_of(tiny_models.stub_cond(4))) / 2
    expected = SCALE * (tiny_models.eps_of(TARGET) - (both if base == "positive" else tiny_models.eps_of(NEGATIVE)))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


PARTS = [  # of the positive, as the host's nodes make them for a part of the run
    tiny_models.stub_cond(1, start_percent=0.0, end_percent=0.5),
    tiny_models.stub_cond(1, guidance=3.5, start_percent=0.5, end_percent=1.0),
]


@pytest.mark.parametrize(("sigma", "guidance"), [(10.0, 0.0), (0.5, 3.5)])
@pytest.mark.parametrize("base", DIFFERENCE)
def test_the_context_is_the_one_that_the_positive_has_at_this_level(sigma, guidance, base):
    step = torch.tensor([sigma, 0.0])
    model = tiny_models.stub_model()
    calls = tiny_models.recorded(tiny_models.steer(model, tiny_models.concept(TARGET, SCALE), base=base))
    positive = [*PARTS[0], *PARTS[1]]
    plain, edited = (tiny_models.sample_cfg(m, positive, NEGATIVE, 4.0, START, step) for m in (model, calls.model))
    expected = SCALE * (tiny_models.eps_of(TARGET) - tiny_models.eps_of(DIFFERENCE[base]))
    torch.testing.assert_close(tiny_models.added_term(plain, edited, step), expected, rtol=1e-3, atol=1e-3)
    with_it = [call for call in calls.seen if "guidance" in call.extra]
    assert sum(call.batch for call in with_it) == (0 if guidance == 0 else 2 + (base == "negative"))


KEYS = ("control", "guidance", "reference_latents", "concat_mask", "hooks", "width", "clip_vision_output", "anything")


@pytest.mark.parametrize("key", KEYS)
def test_every_kind_of_context_is_inherited(key):
    marker = object()
    (found,) = concept_conds(tiny_models.concept(TARGET), context_of({"cross_attn": POSITIVE[0][0], key: marker}))
    assert found[key] is marker


@pytest.mark.parametrize("key", [key for key in KEYS if key != "hooks"])
def test_every_kind_of_context_of_its_own_wins(key):
    own, other = object(), object()
    (found,) = concept_conds(tiny_models.concept(tiny_models.stub_cond(3, **{key: own})), context_of({key: other}))
    assert found[key] is own


@pytest.mark.parametrize(
    "key", ["area", "mask", "strength", "start_percent", "end_percent", "pooled_output", "unclip_conditioning", "uuid"]
)
def test_the_positives_limits_and_words_are_not_inherited(key):
    (found,) = concept_conds(tiny_models.concept(TARGET), context_of({key: 0.5}))
    assert found.get(key) != 0.5


def test_what_the_hosts_text_encoders_give_is_known_as_words():
    """All that they put beside a text's tensor, read from the host's source."""
    folder = Path(comfy.sd1_clip.__file__).parent
    sources = [*folder.glob("text_encoders/*.py"), folder / "sd1_clip.py", folder / "sdxl_clip.py"]
    text = "\n".join(source.read_text(encoding="utf8") for source in sources)
    given = set(re.findall(r"""(?:\bextra|out\[2\])\["(\w+)"\] = """, text))
    for returned in re.findall(r"return \w+(?:\[0\])?, (?:None|\w+(?:\[1\])?), \{(.*)\}", text):
        given |= set(re.findall(r"""["'](\w+)["']: """, returned))
    assert {"attention_mask", "t5xxl_ids", "conditioning_lyrics", "conditioning_mt5xl"} <= given
    assert given <= WORDS


@pytest.mark.parametrize(("base", "kind"), [("positive", "positive"), ("negative", "negative")])
def test_a_concept_is_of_the_kind_of_its_base(base, kind):
    """SDXL's refiner gives positives and negatives another score."""
    seen = []
    model = tiny_models.steer(tiny_models.stub_model(), tiny_models.concept(TARGET), base=base)
    extra_conds = model.model.extra_conds

    def noted(**kwargs):
        seen.append((kwargs["prompt_type"], float(kwargs["cross_attn"].flatten()[0])))
        return extra_conds(**kwargs)

    model.model.extra_conds = noted
    tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, 4.0, START, STEP)
    assert (kind, float(TARGET[0][0].flatten()[0])) in seen


def test_the_conditioning_that_was_given_is_left_alone():
    given = tiny_models.stub_cond(3, area=(2, 2, 0, 0), strength=0.5, hooks="own")
    before = dict(given[0][1])
    concept_conds(tiny_models.concept(given), {"guidance": 3.5, "hooks": "other"})
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
    (found,) = concept_conds(tiny_models.concept(tiny_models.stub_cond(3, hooks="own")), {"hooks": "the positive's"})
    assert found["hooks"] == "the positive's"
    (found,) = concept_conds(tiny_models.concept(tiny_models.stub_cond(3, hooks="own")), {})
    assert "hooks" not in found
