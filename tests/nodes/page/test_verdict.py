"""What a run says under the node: the figures are the run's own, and the advice fits them."""

from __future__ import annotations

import dataclasses
import logging

import comfy.model_management
import pytest
import slider_runs
import tiny_models
import torch
from PIL import Image
from semantic_steering.guidance_core import EditSize, Window
from semantic_steering.nodes.host.lora import fitting as lora_files
from semantic_steering.nodes.host.page import previews
from semantic_steering.nodes.host.page.messages import message
from semantic_steering.nodes.host.page.progress import show_heat, show_preview
from semantic_steering.nodes.host.page.verdict import CLEAR, TOO_FAR, UNSEEN, Acted, Evaluations, verdict
from semantic_steering.nodes.host.run import ksampler as sampling
from semantic_steering.nodes.host.sega.patch import patch_model
from semantic_steering.nodes.host.sega.settings import Page, SEGASettings
from semantic_steering.nodes.host.sliders.patch import Slider, with_slider

POSITIVE, NEGATIVE, TARGET = tiny_models.stub_cond(1), tiny_models.stub_cond(2), tiny_models.stub_cond(3)


def ksample(model, positive=POSITIVE, negative=NEGATIVE, steps=10, cfg=4.0, sampler="euler", size=tiny_models.SIZE):
    latent = {"samples": torch.zeros(1, *size)}
    return sampling.ksample(model, 3, steps, cfg, sampler, "normal", positive, negative, latent, 1.0)


def finished(model, *concepts, steps=10, cfg=4.0, sampler="euler", refresh=1, base="auto", page=None):
    """The state of a run that is over."""
    runs = []
    settings = SEGASettings(refresh=refresh, base=base)
    steered = patch_model(model, concepts, settings, runs.append, page)
    ksample(steered, steps=steps, cfg=cfg, sampler=sampler)
    return runs[0]


@pytest.mark.parametrize("cfg", [4.0, 1.0])
def test_it_tells_how_far_the_picture_moved_along_the_edit(cfg):
    """The stub's estimates of the noise are constant, so that the picture is taken over as the edit has it: with the
    edit γ = s·(n_c − n_base), σ_max·γ lies between the samples with and without it."""
    concept = tiny_models.concept(TARGET, 0.5)
    run = finished(tiny_models.stub_model(), concept, cfg=cfg)
    base = NEGATIVE if cfg > 1 else POSITIVE
    edit = 0.5 * (tiny_models.eps_of(TARGET) - tiny_models.eps_of(base))
    size = run.report.measure.sizes()[0]
    end, first = run.report.measure._end, run.report.measure._begins[0]
    by_hand = float(((first - end) * edit).sum() / edit.norm() / end.norm())
    assert size.moved == pytest.approx(by_hand, rel=1e-3)
    assert run.verdict().startswith(f"test: active in 10 of 10 steps, moved the picture by {100 * by_hand:.0f} %, in ")


@pytest.mark.parametrize(
    ("start", "cfg", "refresh", "base", "expected"),
    [
        (0.0, 4.0, 1, "auto", "+50 % evaluations"),  # two conditionings, and one more in every step
        (0.5, 4.0, 1, "auto", "+25 % evaluations"),
        (0.0, 4.0, 2, "auto", "+25 % evaluations"),
        (0.0, 1.0, 1, "auto", "+100 % evaluations"),  # only the positive, and one more
        (0.0, 1.0, 1, "negative", "+200 % evaluations"),  # the negative has to be evaluated too
    ],
)
def test_its_cost_is_what_was_evaluated(start, cfg, refresh, base, expected):
    calls = tiny_models.recorded(tiny_models.stub_model())
    run = finished(calls.model, tiny_models.concept(TARGET, start=start), cfg=cfg, refresh=refresh, base=base)
    assert run.verdict().split("\n")[0].endswith(expected)
    plain = 10 * (2 if cfg > 1 else 1)
    assert sum(calls.batches) == pytest.approx(plain * (1 + int(expected.split()[0]) / 100))


@pytest.mark.parametrize("refresh", [1, 2, 3])
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "dpmpp_2s_ancestral", "dpm_2"])
def test_every_sampler_is_told_its_steps(sampler, refresh):
    run = finished(
        tiny_models.stub_model(), tiny_models.concept(TARGET, 0.5, start=0.5), sampler=sampler, refresh=refresh
    )
    assert "active in 5 of 10 steps, moved the picture by " in run.verdict()


def test_held_directions_move_the_stub_as_far():
    """Its estimates do not change, so neither does the size, whichever evaluations find them."""
    moved = [
        finished(tiny_models.stub_model(), tiny_models.concept(TARGET, 0.5), refresh=refresh)
        .report.measure.sizes()[0].moved
        for refresh in (1, 3)
    ]  # fmt: skip
    assert moved[0] == pytest.approx(moved[1], rel=1e-4)


def test_a_cfg_pp_sampler_is_told():
    said = finished(tiny_models.stub_model(), tiny_models.concept(TARGET, 0.5), sampler="euler_cfg_pp").verdict()
    assert "a CFG++ sampler takes the whole edit over in every step: much else changes, lower scale or take" in said
    assert "CFG++" not in finished(tiny_models.stub_model(), tiny_models.concept(TARGET, 0.5)).verdict()


def test_a_sweep_gets_no_advice_for_its_strength():
    faint = 1e-3
    assert "→" not in finished(tiny_models.stub_model(), tiny_models.concept(TARGET, (faint,))).verdict()
    assert "→" in finished(tiny_models.stub_model(), tiny_models.concept(TARGET, faint)).verdict()


def test_a_long_text_is_cut_and_stays_in_its_line():
    entry = dataclasses.replace(tiny_models.concept(TARGET), name="glasses\nand " + 50 * "hats ")
    line = finished(tiny_models.stub_model(), entry).verdict().split(":")[0]
    assert line.startswith("glasses and hats")
    assert len(line) == 60
    assert line.endswith("...")


def test_two_in_a_row_count_their_own_cost():
    runs = []
    inner = patch_model(tiny_models.stub_model(), (tiny_models.concept(TARGET),), SEGASettings(), runs.append)
    ksample(patch_model(inner, (tiny_models.concept(TARGET),), SEGASettings(), runs.append))
    assert [run.report.evaluations.text for run in runs] == 2 * ["+50 % evaluations"]


def test_sound_can_be_steered_with_the_live_activity_on():
    size = (4, 32)
    positive, negative, target = (tiny_models.stub_cond(i, size=size) for i in (1, 2, 3))
    steered = patch_model(
        tiny_models.stub_model(size=size), (tiny_models.concept(target),), SEGASettings(), page=Page("4", live=True)
    )
    assert ksample(steered, positive, negative, size=size)["samples"].shape == (1, *size)


def test_the_tiles_of_a_video_show_one_frame():
    pictures, maps = torch.rand(1, 5, 5, 3), torch.rand(3, 40, 40)
    tiles = previews.activity_tiles(pictures, 0 * maps, ["a", "b", "c"])
    first, second, third = (tiles[0, -256:, 4 + i * 260 : 260 + i * 260] for i in range(3))
    assert torch.equal(first, second)
    assert torch.equal(second, third)
    video = torch.arange(5.0).reshape(1, 1, 5, 1, 1).expand(2, 4, 5, 3, 3)
    assert previews.one_frame(video).unique().tolist() == [2.0]
    assert previews.one_frame(video[:, :, 0]).shape == (2, 4, 3, 3)


def test_every_concept_has_its_line():
    concepts = [
        tiny_models.concept(TARGET),
        tiny_models.concept(TARGET, 0.0),
        tiny_models.concept(TARGET, start=0.53, end=0.54),
    ]
    text = finished(tiny_models.stub_model(), *concepts).verdict()
    lines = text.split("\n")
    assert lines[0].startswith("test: active in 10 of 10 steps, moved the picture by ")
    assert "test: switched off" in lines
    assert "test: active in 0 of 10 steps" in lines
    assert "start_percent" in lines[lines.index("test: active in 0 of 10 steps") + 1]
    assert lines[-1] == "+50 % evaluations"


def said_of(moved, guided=True, **more):
    acted = Acted("glasses", **{"steps": 16, "size": EditSize(moved, 0.08), **more})
    return verdict([acted], 20, Evaluations(40, 16), guided).split("\n")


@pytest.mark.parametrize("in_prompt", [True, False])
@pytest.mark.parametrize("guided", [True, False])
def test_advice_where_it_is_too_weak_or_too_strong(guided, in_prompt):
    def said(moved):
        return said_of(moved, guided, in_prompt=in_prompt)

    assert said(UNSEEN)[0].endswith("moved the picture by 5 %, in 8 % of it, +40 % evaluations")
    assert said(UNSEEN)[0].startswith("glasses, in the prompt's context: " if in_prompt else "glasses: ")
    assert said(UNSEEN)[1:] == said(0.99 * CLEAR)[1:] == ["→ about half of such edits are seen"]
    assert len(said(CLEAR)) == len(said(TOO_FAR)) == 1
    assert "raise scale" in said(0.99 * UNSEEN)[1]
    assert "raise scale" in said(-0.1)[1]  # it went the other way
    if guided:
        assert len(said(9.0)) == 1  # nothing measured says that this is too much
    else:
        assert "lower scale" in said(1.01 * TOO_FAR)[1]
    assert said(None)[1:] == []


def test_a_weak_edit_of_few_steps_is_told_so():
    assert said_of(0.01, steps=2)[1].startswith("→ only 2 of the run's steps lie in its window")
    assert said_of(0.01, steps=2)[2].startswith("→ probably too weak to see")
    assert len(said_of(0.01, steps=3)) == 2
    assert len(said_of(0.2, steps=2)) == 1


def test_hints_of_the_concept_come_before_the_advice():
    hint = message("several")
    assert said_of(0.2, hints=(hint,))[1:] == [f"→ {hint}"]
    assert said_of(0.01, hints=(hint,))[1] == f"→ {hint}"
    assert said_of(0.01, hints=(hint,))[2].startswith("→ probably too weak")


def test_what_was_taken_away_may_not_have_been_there():
    weak = tiny_models.stub_cond(2)
    weak[0][0] = weak[0][0] + 1e-4 * tiny_models.noise(1, 1, tiny_models.WIDTH, seed=9)
    text = finished(tiny_models.stub_model(), tiny_models.concept(weak, -1.0)).verdict()
    assert text.split("\n")[1].endswith(" or look whether the picture shows it at all")


@pytest.mark.parametrize(("share", "words"), [(0.0, "another text"), (float("nan"), "no numbers")])
def test_advice_where_there_is_no_edit(share, words):
    text = verdict([Acted("glasses", 16, EditSize(None, share))], 20, Evaluations(40, 16), True)
    assert words in text.split("\n")[1]


def test_advice_names_what_is_left_to_change():
    """A setting that stands at its bound already is not told."""
    faint = tiny_models.stub_cond(2)
    faint[0][0] = faint[0][0] + 1e-4 * tiny_models.noise(1, 1, tiny_models.WIDTH, seed=9)
    options = {"threshold": 0.0, "start": 0.0}
    all_left = finished(tiny_models.stub_model(), tiny_models.concept(faint, 1.0, 0.5, 0.2)).verdict().split("\n")[1]
    assert all_left == "→ probably too weak to see: raise scale or lower threshold or start earlier"
    one_left = finished(tiny_models.stub_model(), tiny_models.concept(faint, 1.0, **options)).verdict().split("\n")[1]
    assert one_left == "→ probably too weak to see: raise scale"
    none_left = finished(tiny_models.stub_model(), tiny_models.concept(faint, 20.0, **options)).verdict()
    assert none_left.split("\n")[1] == "→ probably too weak to see: try another text"


@pytest.mark.parametrize(("guided", "what"), [(True, "lower cfg or scale"), (False, "lower scale")])
def test_at_cfg_1_nobody_is_told_to_lower_cfg(guided, what):
    text = verdict([Acted("glasses", 16, EditSize(None, float("nan")))], 20, Evaluations(40, 16), guided)
    assert text.split("\n")[1] == f"→ the model gave values that are no numbers: {what}"


@pytest.mark.parametrize(("base", "same"), [("negative", NEGATIVE), ("positive", POSITIVE)])
def test_a_concept_that_says_the_same_as_its_base(base, same):
    text = finished(tiny_models.stub_model(), tiny_models.concept(same, 0.5), base=base).verdict()
    assert text.split("\n")[1] == f"→ nothing differs from the {base} prompt: try another text"


@pytest.mark.parametrize(
    ("start", "end", "denoise", "words"),
    [
        (0.0, 0.2, 0.5, "ends before this run begins: raise end_percent"),
        (0.53, 0.54, 1.0, "holds no step of this run: lower start_percent or raise end_percent"),
    ],
)
def test_advice_for_a_window_without_a_step(start, end, denoise, words):
    runs = []
    steered = patch_model(
        tiny_models.stub_model(), (tiny_models.concept(TARGET, start=start, end=end),), SEGASettings(), runs.append
    )
    latent = {"samples": torch.zeros(1, *tiny_models.SIZE)}
    sampling.ksample(steered, 3, 10, 4.0, "euler", "normal", POSITIVE, NEGATIVE, latent, denoise)
    assert runs[0].verdict().split("\n")[1] == f"→ its window {words}"


def test_advice_for_a_window_after_the_runs_end():
    model, runs = tiny_models.stub_model(), []
    steered = patch_model(model, (tiny_models.concept(TARGET, start=0.8),), SEGASettings(), runs.append)
    tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, sigmas=tiny_models.schedule(model, 10)[:5])
    assert runs[0].verdict().split("\n")[1] == "→ its window begins after this run ends: lower start_percent"


def test_it_is_told_under_the_node_and_by_which_run(page):
    run = finished(tiny_models.stub_model(), tiny_models.concept(TARGET), page=Page("4:2"))
    assert page.texts == [("4:2", run.verdict())]
    assert page.runners == ["7"]


def test_a_prompt_that_no_page_sent_is_told_to_none(page, monkeypatch):
    """The host sends what has no client to every page, where the id may be another node's."""
    monkeypatch.setattr(page, "client_id", None)
    finished(tiny_models.stub_model(), tiny_models.concept(TARGET), page=Page("4:2"))
    show_heat(lambda: pytest.fail("drawn for nobody"))
    show_preview(Image.new("RGB", (8, 8)), "4")
    assert page.texts == page.pictures == []


def test_without_a_node_of_its_own_it_is_the_running_one(page):
    finished(tiny_models.stub_model(), tiny_models.concept(TARGET))
    assert page.texts[-1][0] == "7"


def test_a_switched_off_concept_says_so(page):
    patch_model(tiny_models.stub_model(), (tiny_models.concept(TARGET, 0.0),), SEGASettings(), page=Page("4"))
    assert page.texts == [("4", "test: switched off, +0 evaluations\n→ scale is 0")]


def test_without_concepts_the_node_says_so(page):
    patch_model(tiny_models.stub_model(), (), SEGASettings(), page=Page("4"))
    assert page.texts == [("4", "no concept is connected")]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"scale": 0.0}, "scale is 0"),
        ({"scale": (0.0,)}, "scale is 0"),
        ({"start": 0.5, "end": 0.5}, "its window is empty: raise end_percent or lower start_percent"),
        ({"strength": 0.0}, "the strength of its conditioning is 0"),
        ({"mask": torch.zeros(1, 8, 8)}, "its mask is black"),
    ],
)
def test_why_a_concept_is_switched_off(options, why):
    """The other one acts, so that there is a run."""
    strength = {key: value for key, value in options.items() if key == "strength"}
    target = [[TARGET[0][0], {**TARGET[0][1], **strength}]]
    options = {key: value for key, value in options.items() if key != "strength"}
    run = finished(tiny_models.stub_model(), tiny_models.concept(TARGET), tiny_models.concept(target, **options))
    said = run.verdict().split("\n")
    assert said[said.index("test: switched off") + 1] == f"→ {why}"


@pytest.mark.parametrize("size", [tiny_models.SIZE, (4, 3, 5, 5)])
def test_the_live_activity_is_a_picture_a_step(page, size):
    model = tiny_models.stub_model(size=size)
    target = tiny_models.stub_cond(3, size=size)
    positive, negative = tiny_models.stub_cond(1, size=size), tiny_models.stub_cond(2, size=size)
    steered = patch_model(model, (tiny_models.concept(target, start=0.5), tiny_models.concept(target)), SEGASettings(),
                          page=Page("4", live=True))  # fmt: skip
    ksample(steered, positive, negative, steps=6, size=size)
    assert len(page.pictures) == 6
    (kind, picture, _), about = page.pictures[-1]
    assert kind == "JPEG"
    assert picture.width > 2 * 256
    assert about["display_node_id"] == "4"


def test_off_by_default(page):
    finished(tiny_models.stub_model(), tiny_models.concept(TARGET), page=Page("4"))
    assert page.pictures == []


def test_cancel_is_seen_before_the_next_evaluation():
    """heun evaluates twice a step, the host looks once."""
    calls = tiny_models.recorded(tiny_models.stub_model())
    steered = patch_model(calls.model, (tiny_models.concept(TARGET),), SEGASettings())

    def note(executor, *args, **kwargs):
        if len(calls.seen) == 2:
            comfy.model_management.interrupt_current_processing()
        return executor(*args, **kwargs)

    calls.model.add_wrapper_with_key("apply_model", "cancel", note)
    steered.add_wrapper_with_key("apply_model", "cancel", note)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        ksample(steered, steps=10, sampler="heun")
    assert len(calls.seen) <= 3


def test_it_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="semantic_steering"):
        finished(tiny_models.stub_model(), tiny_models.concept(TARGET))
    assert "SEGA: test: active in 10 of 10 steps" in caplog.text


@pytest.mark.parametrize("to", ["both", "positive"])  # switched weights, forward hooks
@pytest.mark.parametrize(("start", "end", "steps"), [(0.0, 0.5, 3), (0.5, 1.0, 3), (0.51, 0.52, 0)])
def test_a_slider_says_in_how_many_steps_it_acted(page, to, start, end, steps):
    layers = lora_files.fit(slider_runs.FAMILY.model, None, slider_runs.ONE, "a slider")
    slider = Slider(layers, (1.0,), Window(start, end), to, node="5")
    slider_runs.run(with_slider(slider_runs.FAMILY.model, slider))
    node, text = page.texts[-1]
    assert node == "5"
    assert text.startswith(f"active in {steps} of 6 steps")
    assert ("lower start_percent" in text) is (steps == 0)
