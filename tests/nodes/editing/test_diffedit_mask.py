"""DiffEdit Mask: what it compares, in how many forwards, and what it hands out."""

from __future__ import annotations

import math

import comfy.latent_formats
import comfy.model_patcher
import numpy as np
import pytest
import slow_diffedit as slow
import tiny_models
import torch
from comfy.model_base import ModelType
from edit_runs import TYPES, VIDEO, find_mask, mixer_model
from semantic_steering.guidance_core import blur_mask, grow_mask
from semantic_steering.nodes.diffedit import DiffEditMask
from semantic_steering.nodes.host.editing.diffedit import estimate_difference

SOURCE = tiny_models.stub_cond(1)
PICTURES = tiny_models.noise(2, *tiny_models.SIZE, seed=5)
HARD = {"grow": 0, "blur": 0}


def changed(conditioning: list, rows: slice, columns: slice, size=tiny_models.SIZE) -> list:
    """The conditioning with another text's field in a part of the picture."""
    field = tiny_models.eps_of(conditioning, size).clone()
    field[..., rows, columns] += 2 * tiny_models.noise(*field[..., rows, columns].shape, seed=9)
    return [[field.reshape(1, 1, -1), {}]]


TARGET = changed(SOURCE, slice(1, 3), slice(2, 5))


@pytest.fixture(scope="module")
def model():
    return mixer_model()


def cells(pictures: torch.Tensor) -> torch.Tensor:
    """One value of each 8×8 block."""
    return pictures[..., 4::8, 4::8]


def test_the_mask_is_where_the_texts_differ(model):
    mask, heat = find_mask(model, SOURCE, TARGET, PICTURES, **HARD)
    assert mask.shape == heat.shape == (2, 48, 48)
    inside = torch.zeros(2, 48, 48, dtype=torch.bool)
    inside[:, 8:24, 16:40] = True
    assert not heat[~inside].any() and heat[inside].all()
    assert set(mask.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
def test_the_heat_map_is_the_slow_one_of_single_evaluations(model_type, strength):
    """One forward a text, a noise and a picture; the rest in loops."""
    model, maps, seed, clamp = mixer_model(model_type), 3, 21, 2.0
    _, heat = find_mask(model, SOURCE, TARGET, PICTURES, strength=strength, maps=maps, seed=seed, clamp=clamp)
    base, sampling = model.model, model.model.model_sampling
    sigma = torch.tensor(min(sampling.percent_to_sigma(1 - strength), float(sampling.sigma_max)))
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(maps):
        noise = torch.randn(1, *tiny_models.SIZE, generator=generator)
        for picture in PICTURES:
            share = 1 - sigma if model_type is ModelType.FLOW else 1.0
            x = share * picture[None] + sigma * noise
            target, source = (
                base.apply_model(x, sigma.reshape(1), c_crossattn=text[0][0], transformer_options={})
                for text in (TARGET, SOURCE)
            )
            rows.append(((x - target) / sigma - (x - source) / sigma)[0])
    expected = slow.heatmap(slow.difference_map(torch.stack(rows).double().numpy(), 2), clamp)
    np.testing.assert_allclose(cells(heat).double().numpy(), expected, atol=2e-4)
    assert expected.max() == 1.0


def test_strength_1_compares_at_the_schedules_start_and_is_finite():
    for model_type in TYPES:
        calls = tiny_models.recorded(mixer_model(model_type))
        mask, heat = find_mask(calls.model, SOURCE, TARGET, PICTURES, strength=1.0)
        assert heat.isfinite().all() and mask.any()
        largest = float(calls.model.get_model_object("model_sampling").sigma_max)
        assert [call.sigma for call in calls.seen] == pytest.approx([largest] * len(calls.seen))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("maps", [1, 10])
def test_everything_is_one_forward_where_memory_allows(maps, batch, model):
    """2·maps rows a picture: source and target, without a negative."""
    calls = tiny_models.recorded(model)
    find_mask(calls.model, SOURCE, TARGET, PICTURES[:batch], maps=maps)
    assert calls.batches == [2 * maps * batch]


@pytest.mark.parametrize(
    ("free", "batches"), [(1e9, [40]), (61, [40]), (60, [36, 4]), (30, [16, 16, 8]), (12, [4] * 10), (5, [2] * 20)]
)
def test_little_memory_means_more_forwards_and_the_same_mask(free, batches, model, monkeypatch):
    """ComfyUI's estimate, here one unit a row, decides; it keeps a third of the free memory back."""
    plain = find_mask(model, SOURCE, TARGET, PICTURES)
    calls = tiny_models.recorded(model)
    monkeypatch.setattr(model.model, "memory_required", lambda shape, cond_shapes=None: float(shape[0]))
    monkeypatch.setattr(comfy.model_patcher.ModelPatcher, "get_free_memory", lambda self, device: free)
    split = find_mask(calls.model, SOURCE, TARGET, PICTURES)
    assert calls.batches == batches
    for one, other in zip(split, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_estimate_sees_the_conditionings_of_all_rows(model, monkeypatch):
    seen = []

    def note(shape, cond_shapes=None):
        seen.append((list(shape), {name: [list(one) for one in found] for name, found in cond_shapes.items()}))
        return 0.0

    monkeypatch.setattr(model.model, "memory_required", note)
    find_mask(model, SOURCE, TARGET, PICTURES, maps=10)
    shape, conds = next((shape, conds) for shape, conds in seen if conds and shape[0] == 40)
    assert shape == [40, *tiny_models.SIZE]
    assert conds["c_crossattn"] == [[20, 1, tiny_models.WIDTH]] * 2


def test_a_seed_is_a_mask(model):
    texts = (SOURCE, tiny_models.stub_cond(2))
    one, again = (find_mask(model, *texts, PICTURES, seed=4, **HARD) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    torch.manual_seed(99)
    assert torch.equal(find_mask(model, *texts, PICTURES, seed=4, **HARD)[1], one[1])
    assert not torch.allclose(find_mask(model, *texts, PICTURES, seed=5, **HARD)[1], one[1], atol=1e-3)


def test_a_pictures_mask_does_not_depend_on_its_batch(model):
    texts = (SOURCE, tiny_models.stub_cond(2))
    pictures = torch.cat([PICTURES, 30 * PICTURES[:1], torch.zeros(1, *tiny_models.SIZE)])
    mask, heat = find_mask(model, *texts, pictures, threshold=0.35, **HARD)
    for i in range(len(pictures)):
        alone, alone_heat = find_mask(model, *texts, pictures[i : i + 1], threshold=0.35, **HARD)
        torch.testing.assert_close(heat[i : i + 1], alone_heat, rtol=1e-4, atol=1e-5)
        clear = (alone_heat - 0.35).abs() > 1e-4
        assert torch.equal(mask[i : i + 1][clear], alone[clear])
        assert clear.float().mean() > 0.9
    assert not torch.equal(mask[0], mask[2])


def test_the_texts_can_be_swapped(model):
    one, other = (find_mask(model, *texts, PICTURES) for texts in ((SOURCE, TARGET), (TARGET, SOURCE)))
    torch.testing.assert_close(one[1], other[1], rtol=1e-5, atol=1e-5)


def test_texts_that_mean_the_same_give_an_empty_mask_and_a_warning(model, caplog):
    mask, heat = find_mask(model, SOURCE, SOURCE, PICTURES)
    assert not mask.any() and not heat.any()
    assert "mean the same" in caplog.text


def test_an_even_difference_gives_an_empty_mask_and_says_what_to_lower(caplog):
    mask, heat = find_mask(
        tiny_models.stub_model(),
        tiny_models.stub_cond(value=0.0),
        tiny_models.stub_cond(value=0.5),
        torch.zeros(1, *tiny_models.SIZE),
    )
    assert not mask.any() and heat.any()
    assert "lower threshold or clamp" in caplog.text and "mean the same" not in caplog.text


def test_estimates_that_are_no_numbers_are_refused(model):
    with pytest.raises(ValueError, match="no numbers"):
        find_mask(model, SOURCE, tiny_models.stub_cond(value=float("nan")), PICTURES)


def test_pictures_in_a_video_models_latents_may_come_as_a_batch():
    """Some picture models use a video's latents with one frame."""
    size = (4, 1, 6, 6)
    video, pictures = mixer_model(size=size), tiny_models.noise(2, *size)
    texts = (tiny_models.stub_cond(1, size=size), tiny_models.stub_cond(2, size=size))
    mask, heat = find_mask(video, *texts, pictures, **HARD)
    assert mask.shape == heat.shape == (2, 48, 48)
    for i in range(2):
        torch.testing.assert_close(heat[i : i + 1], find_mask(video, *texts, pictures[i : i + 1], **HARD)[1])


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.8])
def test_the_heat_map_is_what_the_threshold_cuts(threshold, model):
    mask, heat = find_mask(model, SOURCE, tiny_models.stub_cond(2), PICTURES, threshold=threshold, **HARD)
    assert torch.equal(mask, (heat > threshold).float())
    soft, same_heat = find_mask(model, SOURCE, tiny_models.stub_cond(2), PICTURES, threshold=threshold, grow=5, blur=3)
    assert torch.equal(same_heat, heat)
    assert torch.equal(soft, blur_mask(grow_mask(mask, 5), 3))


def test_both_texts_are_encoded_as_positives(model, monkeypatch):
    """What some models add to a negative, such as a low score, must not be what the two differ in."""
    seen, encode = [], model.model.extra_conds

    def note(**options):
        seen.append(options["prompt_type"])
        return encode(**options)

    monkeypatch.setattr(model.model, "extra_conds", note)
    source = tiny_models.stub_cond(1, prompt_type="negative")
    find_mask(model, source, TARGET, PICTURES)
    assert seen == ["positive", "positive"]
    assert source[0][1] == {"prompt_type": "negative"}  # what was given is left alone


def test_the_map_so_far_is_that_of_so_many_maps(model, monkeypatch):
    monkeypatch.setattr(model.model, "memory_required", lambda *args, **kwargs: 1e30)  # one map a forward
    settings, shown = (model, SOURCE, tiny_models.stub_cond(2), PICTURES, 0.5), []
    estimate_difference(*settings, maps=3, seed=4, on_maps=shown.append)
    assert len(shown) == 3
    for maps, found in enumerate(shown, 1):
        torch.testing.assert_close(found, estimate_difference(*settings, maps=maps, seed=4))
    assert tiny_models.relative(shown[0], shown[2]) > 0.01


def test_more_maps_come_closer_to_the_mean_of_many(model):
    texts = (SOURCE, tiny_models.stub_cond(2))
    many = find_mask(model, *texts, PICTURES, maps=200, seed=1)[1]
    error = [tiny_models.relative(find_mask(model, *texts, PICTURES, maps=n, seed=2)[1], many) for n in (1, 10, 100)]
    assert error[0] > error[1] > error[2]


LIMITS = {
    "area": (3, 3, 0, 0), "mask": torch.ones(1, 48, 48), "start_percent": 0.2, "end_percent": 0.7,
    "timestep_start": 900,
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("which", ["source", "target"])
def test_a_limited_conditioning_is_refused(which, name, model):
    calls = tiny_models.recorded(model)
    limited = tiny_models.stub_cond(1, **{name: LIMITS[name]})
    texts = (limited, TARGET) if which == "source" else (TARGET, limited)
    with pytest.raises(ValueError, match=f"{which} is limited by {name}"):
        find_mask(calls.model, *texts, PICTURES)
    assert not calls.seen


def test_a_range_that_limits_nothing_and_a_strength_are_taken(model):
    plain = find_mask(model, SOURCE, TARGET, PICTURES)
    whole = tiny_models.stub_cond(1, start_percent=0.0, end_percent=1.0, strength=1.0)
    assert torch.equal(find_mask(model, whole, TARGET, PICTURES)[1], plain[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("strength", v) for v in (0.0, 1.5, math.nan)], *[("threshold", v) for v in (-0.1, 1.1, math.nan)],
        ("maps", 0), ("maps", -1), *[("clamp", v) for v in (0.0, math.nan)], ("grow", -1), ("blur", -1),
    ],
)  # fmt: skip
def test_a_bad_setting_is_refused_before_the_model_is_asked(name, value, model):
    calls = tiny_models.recorded(model)
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        find_mask(calls.model, SOURCE, TARGET, PICTURES, **{name: value})
    assert not calls.seen


def test_other_inputs_that_cannot_be_compared_are_refused(model):
    with pytest.raises(ValueError, match="source is empty"):
        find_mask(model, [], TARGET, PICTURES)
    with pytest.raises(ValueError, match="Connect the model from before SEGA Guidance"):
        find_mask(tiny_models.steer(model, tiny_models.concept(TARGET)), SOURCE, TARGET, PICTURES)
    with pytest.raises(ValueError, match="NaN or infinite"):
        find_mask(model, SOURCE, TARGET, torch.full_like(PICTURES, math.nan))
    with pytest.raises(ValueError, match="16 channels"):
        find_mask(model, SOURCE, TARGET, tiny_models.noise(1, 16, 6, 6))


def test_sound_is_refused():
    layout, size = comfy.latent_formats.StableAudio1(), (64, 12)
    model, texts = mixer_model(size=size, layout=layout), [tiny_models.stub_cond(i, size=size) for i in (1, 2)]
    with pytest.raises(ValueError, match=r"without height and width; DiffEdit Mask needs a picture or a video"):
        find_mask(model, *texts, tiny_models.noise(1, *size))


@pytest.mark.parametrize(("ratio", "pictures"), [(1, 3), (4, 9)])
def test_a_video_gives_a_mask_for_each_picture(ratio, pictures):
    """The first latent frame stands for one picture, every other for `ratio`."""
    layout = tiny_models.VideoFormat()
    layout.temporal_downscale_ratio = ratio
    model, source = mixer_model(size=VIDEO, layout=layout), tiny_models.stub_cond(1, size=VIDEO)
    field = tiny_models.eps_of(source, VIDEO).clone()
    field[:, :, 2] += 1.0  # the last latent frame only
    target = [[field.reshape(1, 1, -1), {}]]
    mask, heat = find_mask(model, source, target, tiny_models.noise(1, *VIDEO, seed=5), **HARD)
    assert mask.shape == heat.shape == (pictures, 48, 48)
    assert [bool(one.any()) for one in heat] == [False] * (pictures - ratio) + [True] * ratio
    with pytest.raises(ValueError, match="2 videos"):
        find_mask(model, source, target, tiny_models.noise(2, *VIDEO, seed=5))


@pytest.mark.parametrize("layout", [None, comfy.latent_formats.SDXL()], ids=["no colours", "colours"])
def test_the_preview_needs_no_picture_and_takes_one_of_any_size(layout, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    model = mixer_model(layout=layout)
    for image in (None, torch.rand(1, 31, 57, 3), torch.rand(2, 48, 48, 4)):
        shown = DiffEditMask.execute(model, SOURCE, TARGET, {"samples": PICTURES}, image=image).ui
        assert len(shown["images"]) == 2


def test_the_preview_shows_the_mask_over_the_picture(model):
    from semantic_steering.nodes.host.page.previews import masked_picture

    mask = torch.zeros(1, 48, 48)
    mask[:, :, 24:] = 1.0
    shown = masked_picture(torch.full((1, 96, 96, 3), 0.25), mask)
    assert shown.shape == (1, 48, 48, 3)
    assert torch.equal(shown[:, :, :24], torch.full((1, 48, 24, 3), 0.25))
    assert (shown[:, :, 24:] != 0.25).all() and shown.min() >= 0 and shown.max() <= 1
