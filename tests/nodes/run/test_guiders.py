"""Every guider of the host is steered or clearly refused, and each direction starts from the right base.

With the stub, eps is the conditioning itself, so γ = s·(concept − base) can be read off the result.
"""

from __future__ import annotations

import comfy.samplers
import pytest
import tiny_models
import torch
from comfy_extras.nodes_custom_sampler import BasicGuider, CFGGuider, DualCFGGuider, DualModelGuider
from comfy_extras.nodes_perpneg import PerpNegGuider

POSITIVE, NEGATIVE, OTHER = tiny_models.stub_cond(1), tiny_models.stub_cond(2), tiny_models.stub_cond(4)
TARGET = tiny_models.stub_cond(3)
SCALE = 2.0
START = tiny_models.noise(1, *tiny_models.SIZE)


def term(build, base="auto", **options):
    """γ of a whole run of the guider that `build` makes from a model, and its forward passes."""
    model = tiny_models.stub_model()
    sigmas = tiny_models.schedule(model)
    calls = tiny_models.recorded(tiny_models.steer(model, tiny_models.concept(TARGET, SCALE, **options), base=base))
    plain, edited = (tiny_models.sample(build(m), START, sigmas) for m in (model, calls.model))
    return tiny_models.added_term(plain, edited, sigmas), calls


def assert_base(found: torch.Tensor, base: list) -> None:
    expected = SCALE * (tiny_models.eps_of(TARGET) - tiny_models.eps_of(base))
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def cfg(value):
    return lambda model: CFGGuider.execute(model, POSITIVE, NEGATIVE, value).args[0]


@pytest.mark.parametrize(
    ("base", "value", "expected"),
    [
        ("auto", 4.0, NEGATIVE),
        ("auto", 1.0, POSITIVE),
        ("auto", 0.0, NEGATIVE),
        ("negative", 4.0, NEGATIVE),
        ("negative", 1.0, NEGATIVE),
        ("positive", 4.0, POSITIVE),
        ("positive", 1.0, POSITIVE),
    ],
)
def test_the_base_is_the_one_asked_for(base, value, expected):
    found, _ = term(cfg(value), base)
    assert_base(found, expected)


@pytest.mark.parametrize("base", ["auto", "positive"])
def test_a_guider_without_a_negative_starts_from_its_positive(base):
    found, calls = term(lambda model: BasicGuider.execute(model, POSITIVE).args[0], base)
    assert_base(found, POSITIVE)
    assert calls.batches == [2] * 5


def test_a_negative_base_without_a_negative_is_refused():
    with pytest.raises(ValueError, match="no negative; set base to auto or positive"):
        term(lambda model: BasicGuider.execute(model, POSITIVE).args[0], "negative")


@pytest.mark.parametrize("base", ["auto", "negative", "positive"])
def test_cfg_1_keeps_the_hosts_exact_conditional_prediction(base):
    """The host's x0 at cfg 1 is the positive's prediction to the bit; steering only subtracts σ·γ from it."""
    model = tiny_models.stub_model()
    predictions = {"plain": [], "steered": []}

    def noting(one, name):
        one = one.clone()

        def note(args):
            predictions[name].append(args["denoised"].clone())
            assert torch.equal(args["denoised"], args["cond_denoised"])
            return args["denoised"]

        one.set_model_sampler_post_cfg_function(note)
        return one

    sigmas = tiny_models.schedule(model, 2)[[0, 2]]  # one step: both start it from the same state
    steered = tiny_models.steer(model, tiny_models.concept(TARGET, SCALE), base=base)
    ends = [
        tiny_models.sample_cfg(noting(m, name), POSITIVE, NEGATIVE, 1.0, START, sigmas)
        for name, m in (("plain", model), ("steered", steered))
    ]
    assert torch.equal(predictions["plain"][0], predictions["steered"][0])
    assert not torch.equal(*ends)


def test_cfg_1_with_a_concept_equal_to_its_base_is_the_plain_picture():
    """Δn = 0 exactly, while the concept is evaluated at every step."""
    model = tiny_models.stub_model()
    calls = tiny_models.recorded(tiny_models.steer(model, tiny_models.concept(POSITIVE, SCALE), momentum=0.5))
    edited = tiny_models.sample_cfg(calls.model, POSITIVE, NEGATIVE, 1.0)
    assert calls.batches == [2] * 5
    assert torch.equal(edited, tiny_models.sample_cfg(model, POSITIVE, NEGATIVE, 1.0))


@pytest.mark.parametrize("style", ["regular", "nested"])
@pytest.mark.parametrize(("first", "second"), [(3.0, 2.0), (1.0, 4.0), (1.0, 1.0), (5.0, 1.0)])
def test_dual_cfg_is_steered_with_one_more_batched_call(style, first, second):
    def build(model):
        return DualCFGGuider.execute(model, POSITIVE, OTHER, NEGATIVE, first, second, style).args[0]

    found, calls = term(build)
    assert_base(found, POSITIVE if second == 1.0 else NEGATIVE)
    own = 3 - (style == "regular" and second == 1.0) - (style == "regular" and first == second == 1.0)
    assert calls.batches == [own, 2] * 5


@pytest.mark.parametrize("base", ["auto", "negative"])
@pytest.mark.parametrize("negative_scale", [0.0, 1.0])
def test_perp_neg_starts_from_its_empty_prompt(base, negative_scale):
    found, calls = term(
        lambda model: PerpNegGuider.execute(model, POSITIVE, NEGATIVE, OTHER, 4.0, negative_scale).args[0], base
    )
    assert_base(found, OTHER)
    assert calls.batches == [3 - (negative_scale == 0.0), 2] * 5


@pytest.mark.parametrize(
    "build",
    [
        lambda model: DualCFGGuider.execute(model, POSITIVE, OTHER, NEGATIVE, 3.0, 2.0, "regular").args[0],
        lambda model: PerpNegGuider.execute(model, POSITIVE, NEGATIVE, OTHER, 4.0, 1.0).args[0],
        cfg(4.0),
        cfg(1.0),
    ],
    ids=["DualCFG", "PerpNeg", "CFG", "cfg 1"],
)
def test_extra_concepts_change_nothing_about_the_guiders_own_result(build):
    """γ of one concept is the same with and without a second one that cancels nothing of it."""
    model, sigmas = tiny_models.stub_model(), tiny_models.schedule(tiny_models.stub_model())
    first, second = tiny_models.concept(TARGET, SCALE), tiny_models.concept(tiny_models.stub_cond(9), 1.0)
    plain, one, other, both = (
        tiny_models.sample(build(tiny_models.steer(model, *concepts)), START, sigmas)
        for concepts in ((), (first,), (second,), (first, second))
    )
    torch.testing.assert_close(both - plain, (one - plain) + (other - plain), rtol=1e-3, atol=1e-2)
    assert (both - one).abs().max() > 1


def test_a_guider_over_two_models_is_refused():
    model, sigmas = tiny_models.stub_model(), tiny_models.schedule(tiny_models.stub_model())
    steered = tiny_models.steer(model, tiny_models.concept(TARGET))
    guider = DualModelGuider.execute(steered, POSITIVE, 4.0, tiny_models.stub_model(), NEGATIVE).args[0]
    with pytest.raises(ValueError, match=r"Dual Model CFG Guider.*leave its model_negative unconnected"):
        tiny_models.sample(guider, START, sigmas)


def test_the_second_model_of_a_guider_is_refused_too():
    """The host calls no wrapper of it: the concepts would do nothing."""
    model, sigmas = tiny_models.stub_model(), tiny_models.schedule(tiny_models.stub_model())
    steered = tiny_models.steer(tiny_models.stub_model(), tiny_models.concept(TARGET))
    guider = DualModelGuider.execute(model, POSITIVE, 4.0, steered, NEGATIVE).args[0]
    with pytest.raises(
        ValueError, match=r"SEGA Guidance cannot act on a guider's second model .*the model from before it"
    ):
        tiny_models.sample(guider, START, sigmas)
    plain = DualModelGuider.execute(model, POSITIVE, 4.0, tiny_models.stub_model(), NEGATIVE).args[0]
    assert tiny_models.sample(plain, START, sigmas).isfinite().all()


def test_a_guider_without_a_positive_is_refused():
    """As a pack might write one, with names of its own."""
    guider = comfy.samplers.CFGGuider(tiny_models.steer(tiny_models.stub_model(), tiny_models.concept(TARGET)))
    guider.inner_set_conds({"first": POSITIVE, "second": NEGATIVE})
    with pytest.raises(ValueError, match=r"no positive conditioning \(it has first, second\)"):
        tiny_models.sample(guider, START, tiny_models.schedule(tiny_models.stub_model()))


def test_a_dual_model_guider_without_a_second_model_is_an_ordinary_one():
    found, _ = term(lambda model: DualModelGuider.execute(model, POSITIVE, 4.0, None, NEGATIVE).args[0])
    assert_base(found, NEGATIVE)


class TestALimitedBase:
    """The host returns 0 outside a conditioning's range, area or mask; a whole copy of it is the base instead.

    One Euler step to 0, so that γ can be read off although the guider's own result is 0 in places.
    """

    limits = {  # noqa: RUF012
        "past range": {"start_percent": 0.0, "end_percent": 0.2},
        "coming range": {"start_percent": 0.6, "end_percent": 1.0},
        "area": {"area": (3, 3, 0, 0)},
        "area in shares": {"area": ("percentage", 0.5, 0.5, 0.5, 0.5)},
        "mask": {"mask": torch.cat([torch.ones(1, 3, 6), torch.zeros(1, 3, 6)], 1), "mask_strength": 1.0},
    }
    step = torch.tensor([2.0, 0.0])  # σ = 2 lies near 0.45 of the range

    @pytest.mark.parametrize("base", ["negative", "positive"])
    @pytest.mark.parametrize("limit", limits)
    def test_a_limited_base_holds_everywhere(self, limit, base):
        positive, negative = tiny_models.stub_cond(value=1.0), tiny_models.stub_cond(value=-2.0)
        (positive if base == "positive" else negative)[0][1].update(self.limits[limit])
        target, model = tiny_models.stub_cond(value=3.0), tiny_models.stub_model()
        calls = tiny_models.recorded(tiny_models.steer(model, tiny_models.concept(target, SCALE), base=base))
        plain, edited = (
            tiny_models.sample_cfg(m, positive, negative, 4.0, START, self.step) for m in (model, calls.model)
        )
        expected = SCALE * (3.0 - (1.0 if base == "positive" else -2.0))
        found = tiny_models.added_term(plain, edited, self.step)
        torch.testing.assert_close(found, torch.full_like(found, expected), rtol=1e-3, atol=1e-3)
        if "range" in limit:  # the limited conditioning itself, out of its range, is not evaluated
            assert calls.batches == [3]

    def test_perp_negs_limited_empty_prompt(self):
        empty = tiny_models.stub_cond(4, start_percent=0.0, end_percent=0.2)
        model = tiny_models.stub_model()
        plain, edited = (
            tiny_models.sample(PerpNegGuider.execute(m, POSITIVE, NEGATIVE, empty, 4.0, 1.0).args[0], START, self.step)
            for m in (model, tiny_models.steer(model, tiny_models.concept(TARGET, SCALE)))
        )
        assert_base(tiny_models.added_term(plain, edited, self.step), empty)

    @pytest.mark.parametrize("base", ["negative", "positive"])
    @pytest.mark.parametrize(("sigma", "value"), [(10.0, -1.0), (0.5, -3.0)])
    def test_a_scheduled_base_is_the_part_that_holds_at_this_level(self, base, sigma, value):
        """As prompt-control's [A:B:0.5] makes it; the guider evaluates that part itself."""
        scheduled = [
            *tiny_models.stub_cond(value=-1.0, start_percent=0.0, end_percent=0.5),
            *tiny_models.stub_cond(value=-3.0, start_percent=0.5, end_percent=1.0),
        ]
        given = {"positive": POSITIVE, "negative": NEGATIVE, base: scheduled}
        model, step = tiny_models.stub_model(), torch.tensor([sigma, 0.0])
        calls = tiny_models.recorded(
            tiny_models.steer(model, tiny_models.concept(tiny_models.stub_cond(value=5.0), SCALE), base=base)
        )
        plain, edited = (
            tiny_models.sample_cfg(m, given["positive"], given["negative"], 4.0, START, step)
            for m in (model, calls.model)
        )
        found = tiny_models.added_term(plain, edited, step)
        torch.testing.assert_close(found, torch.full_like(found, SCALE * (5.0 - value)), rtol=1e-3, atol=1e-3)
        assert calls.batches == [3]

    @pytest.mark.parametrize(
        "halves",
        [
            ({"area": (6, 3, 0, 0)}, {"area": (6, 3, 0, 3)}),
            ({"mask": torch.cat([torch.ones(1, 6, 3), torch.zeros(1, 6, 3)], 2)},
             {"mask": torch.cat([torch.zeros(1, 6, 3), torch.ones(1, 6, 3)], 2)}),
            ({"area": (6, 3, 0, 0)}, {"default": True}),
        ],
        ids=["areas", "masks", "an area and a default"],
    )  # fmt: skip
    @pytest.mark.parametrize("base", ["negative", "positive"])
    def test_a_base_of_two_places_is_in_each_place_what_holds_there(self, halves, base):
        """In the overlap of soft edges the host's own weights count: right value is its own estimate."""
        regional = [
            *tiny_models.stub_cond(value=-1.0, **halves[0]), *tiny_models.stub_cond(value=-3.0, **halves[1])
        ]  # fmt: skip
        given = {"positive": POSITIVE, "negative": NEGATIVE, base: regional}
        model = tiny_models.stub_model()
        own, zero = (
            tiny_models.sample_cfg(model, cond, None, 1.0, START, self.step)
            for cond in (regional, tiny_models.stub_cond(value=0.0))
        )
        hosts = tiny_models.added_term(zero, own, self.step)  # the host's own estimate
        plain, edited = (
            tiny_models.sample_cfg(m, given["positive"], given["negative"], 4.0, START, self.step)
            for m in (
                model,
                tiny_models.steer(model, tiny_models.concept(tiny_models.stub_cond(value=5.0), SCALE), base=base),
            )
        )
        found = tiny_models.added_term(plain, edited, self.step)
        assert [round(float(hosts[..., column].mean()), 3) for column in (0, -1)] == [-1.0, -3.0]
        torch.testing.assert_close(found, SCALE * (5.0 - hosts), rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("base", ["negative", "positive"])
    def test_where_none_of_the_parts_holds_all_of_them_count_the_same(self, base):
        parts = [
            *tiny_models.stub_cond(value=-1.0, area=(3, 3, 0, 0)), *tiny_models.stub_cond(value=-3.0, area=(3, 3, 0, 0))
        ]  # fmt: skip
        given = {"positive": POSITIVE, "negative": NEGATIVE, base: parts}
        model = tiny_models.stub_model()
        target = tiny_models.concept(tiny_models.stub_cond(value=5.0), SCALE)
        plain, edited = (
            tiny_models.sample_cfg(m, given["positive"], given["negative"], 4.0, START, self.step)
            for m in (model, tiny_models.steer(model, target, base=base))
        )
        found = tiny_models.added_term(plain, edited, self.step)
        torch.testing.assert_close(found, torch.full_like(found, SCALE * 7.0), rtol=1e-3, atol=1e-3)

    def test_the_copy_is_made_only_where_it_is_needed(self):
        """A whole negative is evaluated once a step, as negative and base in one."""
        _, calls = term(cfg(4.0))
        assert calls.batches == [3] * 5


def test_area_conditionings_on_the_positive_keep_the_edit_everywhere():
    """Two halves of a picture with prompts of their own; the concept acts on both."""
    left = tiny_models.stub_cond(value=1.0, area=(6, 3, 0, 0))
    right = tiny_models.stub_cond(value=-1.0, area=(6, 3, 0, 3))
    negative, target = tiny_models.stub_cond(value=0.5), tiny_models.stub_cond(value=2.0)
    model = tiny_models.stub_model()
    sigmas = tiny_models.schedule(model)
    plain = tiny_models.sample_cfg(model, [*left, *right], negative, 4.0, START, sigmas)
    steered = tiny_models.steer(model, tiny_models.concept(target, SCALE))
    edited = tiny_models.sample_cfg(steered, [*left, *right], negative, 4.0, START, sigmas)
    found = tiny_models.added_term(plain, edited, sigmas)
    torch.testing.assert_close(found, torch.full_like(found, SCALE * 1.5), rtol=1e-3, atol=1e-3)


class AsksTwice(comfy.samplers.CFGGuider):
    """As a pack might write one: the guided estimate, moved a little towards the positive alone."""

    def __init__(self, model, order):
        super().__init__(model)
        self.set_conds(POSITIVE, NEGATIVE)
        self.set_cfg(4.0)
        self.order = order

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        def asked(scale):
            conds = (self.conds["negative"], self.conds["positive"])
            return comfy.samplers.sampling_function(self.inner_model, x, timestep, *conds, scale, model_options, seed)

        guided, alone = (asked(scale) for scale in self.order)
        return 0.9 * guided + 0.1 * alone


@pytest.mark.parametrize(("order", "batches"), [((4.0, 1.0), [3, 1]), ((1.0, 4.0), [3, 2])])
def test_a_guider_that_asks_twice_at_one_level_gets_its_own_estimates_and_one_edit(order, batches):
    """The concept, and the base where the first question leaves it out, are evaluated with the first one only."""
    found, calls = term(lambda model: AsksTwice(model, order))
    assert_base(found, NEGATIVE)
    assert calls.batches == batches * 5


def test_two_stacked_patches_add_up():
    model = tiny_models.stub_model()
    sigmas = tiny_models.schedule(model)
    second = tiny_models.stub_cond(9)
    stacked = tiny_models.steer(
        tiny_models.steer(model, tiny_models.concept(TARGET, SCALE, 0.9)), tiny_models.concept(second, -1.0, 0.5)
    )
    together = tiny_models.steer(model, tiny_models.concept(TARGET, SCALE, 0.9), tiny_models.concept(second, -1.0, 0.5))
    plain, one, other = (
        tiny_models.sample_cfg(m, POSITIVE, NEGATIVE, 4.0, START, sigmas) for m in (model, stacked, together)
    )
    assert tiny_models.relative(one, plain) > 0.01
    assert tiny_models.relative(one, other) < 1e-5
    both_at_cfg_1 = [tiny_models.sample_cfg(m, POSITIVE, NEGATIVE, 1.0, START, sigmas) for m in (stacked, together)]
    assert tiny_models.relative(*both_at_cfg_1) < 1e-5


def test_a_calc_cond_batch_function_of_another_pack_still_runs():
    model, seen = tiny_models.stub_model(), []

    def other_pack(args):
        seen.append(len(args["conds"]))
        return comfy.samplers.calc_cond_batch(
            args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
        )

    model.set_model_sampler_calc_cond_batch_function(other_pack)
    tiny_models.sample_cfg(tiny_models.steer(model, tiny_models.concept(TARGET)), POSITIVE, NEGATIVE)
    assert seen == [3] * 5


def test_pre_cfg_functions_of_other_packs_see_only_positive_and_negative():
    model, seen = tiny_models.stub_model(), []

    def pre_cfg(args):
        seen.append((len(args["conds"]), len(args["conds_out"])))
        return args["conds_out"]

    model.set_model_sampler_pre_cfg_function(pre_cfg)
    tiny_models.sample_cfg(tiny_models.steer(model, tiny_models.concept(TARGET)), POSITIVE, NEGATIVE)
    assert seen == [(2, 2)] * 5
