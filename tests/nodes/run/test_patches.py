"""What a model carries: a patch states its line once, and refusals and memory estimates follow from it."""

from __future__ import annotations

import comfy.samplers
import pytest
import slider_runs
import tiny_models
from comfy.patcher_extension import WrappersMP
from semantic_steering.nodes.diffedit import DiffEditMask
from semantic_steering.nodes.host.run import batched_call, patches
from semantic_steering.nodes.inversion import DDIMInvert

from devtools.release.carried import of_the_nodes

POSITIVE, NEGATIVE, TARGET = (tiny_models.unet_cond(seed) for seed in (1, 2, 3))
LATENT = {"samples": tiny_models.noise(1, 4, 8, 8)}


@pytest.fixture(params=[True, False], ids=["in a window", "in the whole run"])
def tomorrow(request, monkeypatch):
    """A patch that no file of the pack knows, and a MODEL that carries it."""
    monkeypatch.setattr(patches, "REGISTER", dict(patches.REGISTER))
    key = f"{patches.PREFIX}tomorrow"
    patch = patches.declare(patches.Patch(key, "a patch of tomorrow", "Tomorrow's Node", windowed=request.param))
    model = tiny_models.unet_model()
    patches.add_outer_sample(model, patch, lambda executor, *args, **kwargs: executor(*args, **kwargs))
    return patch, model


@pytest.mark.parametrize("use", ["DDIM Invert", "DiffEdit Mask"])
def test_a_new_patch_is_refused_where_its_window_matters(tomorrow, use):
    patch, model = tomorrow
    assert patches.carried(model) == [patch]

    def run():
        if use == "DDIM Invert":
            DDIMInvert.execute(model, POSITIVE, LATENT, steps=1, denoise=1.0, method="random")
        else:
            DiffEditMask.execute(model, POSITIVE, TARGET, LATENT, maps=1)

    if not patch.windowed:
        run()
        return
    message = (
        f"carries a patch of tomorrow, which acts in a part of the run: {use} needs .* from before Tomorrow's Node"
    )
    with pytest.raises(ValueError, match=message):
        run()


def test_a_new_patch_is_refused_on_a_second_model(tomorrow):
    _, model = tomorrow
    with pytest.raises(ValueError, match="a patch of tomorrow cannot act on a guider's second model"):
        model.pre_run()


def test_what_a_new_patch_adds_is_planned_for(tomorrow, monkeypatch):
    """By a run that counts, and by a slider that loads other weights in mid-run; the pack's own beside it."""
    patch, model = tomorrow
    shapes = []
    estimate = comfy.sampler_helpers.estimate_memory

    def noted(model, shape, conds):
        shapes.append(list(shape))
        return estimate(model, shape, conds)

    monkeypatch.setattr(comfy.sampler_helpers, "estimate_memory", noted)

    def adds(executor, *args, **kwargs):
        guider = executor.class_obj
        guider.conds |= {f"{patch.key}.{i}": guider.conds["negative"] for i in range(3)}
        batched_call.count_in_run(guider.model_options)
        return executor(*args, **kwargs)

    model = slider_runs.load(model, slider_runs.ONE, start=0.5)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "test.adds", adds)
    steered = tiny_models.steer(model, tiny_models.concept(TARGET))
    tiny_models.sample_cfg(steered, POSITIVE, NEGATIVE, start=tiny_models.noise(2, 4, 8, 8))
    assert len(shapes) == 2  # the host's own, and the slider's
    assert shapes == 2 * [[2 + 4, 4, 8, 8]]  # of two pictures: 3 conditionings of the new patch, 1 of SEGA


def test_every_patch_of_the_nodes_is_in_the_register():
    model = tiny_models.steer(
        slider_runs.load(slider_runs.FAMILY.model, slider_runs.ONE, 1.0, 0.2), tiny_models.concept(TARGET)
    )
    keys = model.wrappers[WrappersMP.OUTER_SAMPLE]
    assert len(keys) == 2
    assert {patch.key for patch in patches.carried(model)} == set(keys)
    assert not patches.carried(tiny_models.unet_model())


def test_a_guider_counts_its_conditionings_once():
    """However many patches ask for it, and none where none was added."""
    options: dict = {"transformer_options": {}}
    batched_call.count_in_run(options)
    batched_call.count_in_run(options)
    assert len(options["transformer_options"]["wrappers"][WrappersMP.PREPARE_SAMPLING][batched_call.COUNT_KEY]) == 1
    assert batched_call.counted(3, {"positive": [], "negative": []}) == 3
    assert batched_call.counted(3, {"positive": [], "semantic_steering.sega.0.concept.0": []}) == 3 + 2


def test_names_are_taken_once(monkeypatch):
    monkeypatch.setattr(patches, "REGISTER", dict(patches.REGISTER))
    for key in (next(iter(patches.REGISTER)), "somebody.elses"):
        with pytest.raises(AssertionError, match=key):
            patches.declare(patches.Patch(key, "another", "Another Node", windowed=False))


def test_the_documented_table_is_the_registers(root):
    page = (root / "docs" / "compatibility.md").read_text(encoding="utf-8")
    assert of_the_nodes() in page
