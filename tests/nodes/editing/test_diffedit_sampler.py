"""DiffEdit Sampler: the edit inside the mask, the picture itself outside."""

from __future__ import annotations

import math

import comfy.latent_formats
import numpy as np
import pytest
import slow_diffedit as slow
import tiny_models
import torch
from comfy.model_base import ModelType
from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM
from edit_runs import TYPES, VIDEO, decode, edit, find_mask, invert, mixer_model, psnr

SOURCE, TARGET, NEGATIVE = tiny_models.stub_cond(1), tiny_models.stub_cond(2), tiny_models.stub_cond(3)
PICTURES = tiny_models.noise(2, *tiny_models.SIZE, seed=5)
LAYOUTS = {"plain": None, "scale": comfy.latent_formats.SDXL(), "shift": comfy.latent_formats.SD3()}


def rectangle(rows: slice, columns: slice, value: float = 1.0, size=(48, 48)) -> torch.Tensor:
    mask = torch.zeros(1, *size)
    mask[:, rows, columns] = value
    return mask


CORNER = rectangle(slice(0, 24), slice(16, 48))


@pytest.fixture(scope="module")
def model():
    return mixer_model()


@pytest.fixture(scope="module")
def inversion(model):
    return invert(model, SOURCE, PICTURES, steps=10).inversion


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
def test_every_model_type_decodes_as_written_out_by_hand(model_type, cfg):
    """Guidance by hand, Euler and blending in loops; outside the mask the state of the same level."""
    model = mixer_model(model_type)
    found = invert(model, SOURCE, PICTURES, steps=10).inversion
    weights = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    weights[..., :2] = 0.0
    weights[..., 4:] = 1.0

    def slope(x: np.ndarray, sigma: float) -> np.ndarray:
        def predict(text):
            t = torch.full((len(x),), sigma)
            c = text[0][0].repeat(len(x), 1, 1)
            state = torch.from_numpy(x).float()
            return model.model.apply_model(state, t, c_crossattn=c, transformer_options={}).double().numpy()

        negative = predict(NEGATIVE)
        return (x - (negative + cfg * (predict(TARGET) - negative))) / sigma

    states = [state.double().numpy() for state in reversed(found.latents)]
    levels = found.sigmas.flip(0).tolist()
    expected = torch.from_numpy(slow.masked_decode(slope, states, levels, weights.double().numpy()))
    mask = weights[0].repeat_interleave(8, -1).repeat_interleave(8, -2)
    result = edit(model, TARGET, NEGATIVE, found, mask, cfg)
    assert tiny_models.relative(result, expected) < 1e-4
    assert torch.equal(result[..., :2], PICTURES[..., :2])
    assert tiny_models.relative(result[..., 2:], PICTURES[..., 2:]) > 0.05


@pytest.mark.parametrize("size", [(48, 48), (64, 64), (13, 200)])
def test_an_empty_mask_of_any_size_gives_the_pictures_bits_and_costs_no_forward(size, model, inversion):
    """LoadImage gives 64×64 zeros for a picture without alpha."""
    calls = tiny_models.recorded(model)
    result = edit(calls.model, TARGET, NEGATIVE, inversion, torch.zeros(1, *size))
    assert torch.equal(result, PICTURES) and not calls.seen
    assert result.data_ptr() != inversion.samples.data_ptr()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["hard", "soft", "from DiffEdit Mask"])
def test_the_background_is_the_pictures_bits(kind, layout):
    """Also where the host's conversion to its own latent space and back is not exact."""
    layout = LAYOUTS[layout]
    size = tiny_models.SIZE if layout is None else (layout.latent_channels, 6, 6)
    model, samples = mixer_model(size=size, layout=layout), 3 * tiny_models.noise(2, *size, seed=6) + 0.7
    source, target = (tiny_models.stub_cond(i, size=size) for i in (1, 2))
    if layout is not None:
        assert not torch.equal(layout.process_out(layout.process_in(samples)), samples)
    mask = {"hard": CORNER, "soft": rectangle(slice(5, 27), slice(18, 45), 0.4)}.get(kind)
    if mask is None:
        field = tiny_models.eps_of(source, size).clone()
        field[..., 1:3, 3:5] += 2.0
        mask, _ = find_mask(model, source, [[field.reshape(1, 1, -1), {}]], samples, grow=4, blur=2)
    small = torch.nn.functional.interpolate(mask[:, None], size=(6, 6), mode="area")
    inversion = invert(model, source, samples, steps=10).inversion
    result = edit(model, target, source, inversion, mask)
    outside = (small == 0).expand(result.shape)
    assert outside.any() and not outside.all()
    assert torch.equal(result[outside], samples[outside])
    assert tiny_models.relative(result[~outside], samples[~outside]) > 1e-3


@pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
def test_with_a_full_mask_it_is_the_stock_sampler_on_the_inverted_noise(model_type):
    model = mixer_model(model_type)
    found = invert(model, SOURCE, PICTURES, steps=10)
    whole = edit(model, TARGET, NEGATIVE, found.inversion, torch.ones(1, 48, 48), 4.0)
    assert tiny_models.relative(whole, decode(model, TARGET, found, PICTURES, NEGATIVE, 4.0)) < 1e-4


def test_the_prompt_of_the_inversion_gives_the_picture_back_under_any_mask(model, inversion):
    for mask in (CORNER, torch.ones(1, 48, 48), rectangle(slice(3, 30), slice(7, 41), 0.6)):
        assert psnr(edit(model, SOURCE, NEGATIVE, inversion, mask, 1.0), PICTURES) > 45


def test_more_mask_means_more_change(model, inversion):
    """Between the picture and the whole edit."""
    change = [
        tiny_models.relative(edit(model, TARGET, NEGATIVE, inversion, torch.full((1, 48, 48), value)), PICTURES)
        for value in (0.2, 0.6, 1.0)
    ]
    assert 0 < change[0] < change[1] < change[2]


def test_a_model_that_carries_sega_is_taken_and_steers_inside_the_mask(model, inversion):
    steered = tiny_models.steer(model, tiny_models.concept(NEGATIVE, 3.0))
    plain, result = (edit(one, TARGET, SOURCE, inversion, CORNER, 3.0) for one in (model, steered))
    assert tiny_models.relative(result[..., :3, 2:], plain[..., :3, 2:]) > 0.01
    assert torch.equal(result[..., 3:, :], PICTURES[..., 3:, :])


def test_every_picture_has_its_own_mask_or_all_the_same(model, inversion):
    masks = torch.cat([CORNER, CORNER.flip(-1)])
    both = edit(model, TARGET, NEGATIVE, inversion, masks)
    for i in range(2):
        same = edit(model, TARGET, NEGATIVE, inversion, masks[i : i + 1])
        torch.testing.assert_close(both[i], same[i], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="mask has a batch of 3, the latent a batch of 2"):
        edit(model, TARGET, NEGATIVE, inversion, CORNER.repeat(3, 1, 1))


def test_a_batch_equals_its_pictures_alone(model, inversion):
    batch = edit(model, TARGET, NEGATIVE, inversion, CORNER, 3.0)
    for i in range(2):
        single = invert(model, SOURCE, PICTURES[i : i + 1], steps=10).inversion
        assert tiny_models.relative(batch[i : i + 1], edit(model, TARGET, NEGATIVE, single, CORNER, 3.0)) < 1e-4


@pytest.mark.parametrize("frames", [1, 3, 9])
def test_a_video_takes_a_mask_for_all_its_latent_frames_or_its_pictures(frames):
    layout = tiny_models.VideoFormat()
    layout.temporal_downscale_ratio = 4
    model = mixer_model(size=VIDEO, layout=layout)
    source, target = (tiny_models.stub_cond(i, size=VIDEO) for i in (1, 2))
    samples = tiny_models.noise(1, *VIDEO, seed=6)
    inversion = invert(model, source, samples, steps=10).inversion
    mask = torch.zeros(frames, 48, 48)
    mask[frames // 2 :, :24] = 1.0  # of several: not the first
    result = edit(model, target, source, inversion, mask)
    outside = torch.zeros(1, 1, 3, 6, 6, dtype=torch.bool)
    outside[..., 3:, :] = True
    if frames > 1:
        outside[:, :, 0] = True
    outside = outside.expand(samples.shape)
    assert torch.equal(result[outside], samples[outside])
    assert (result[~outside] != samples[~outside]).float().mean() > 0.9


@pytest.mark.parametrize(
    "size", [(48, 48), (96, 96), (24, 24), (53, 55), (49, 48)], ids=["same", "twice", "half", "uncropped", "one more"]
)
def test_a_mask_of_the_same_picture_fits_at_any_resolution(size, model, inversion):
    """VAE Encode cuts a picture's edges off to whole cells, the middle stays: so the mask's are."""
    height, width = size
    mask = torch.zeros(1, *size)
    if size in ((53, 55), (49, 48)):
        down, right = (height - 48) // 2, (width - 48) // 2
        mask[:, down : down + 24, right + 16 : right + 48] = 1.0
    else:
        mask[:, : height // 2, width // 3 :] = 1.0
    expected = edit(model, TARGET, NEGATIVE, inversion, CORNER)
    torch.testing.assert_close(edit(model, TARGET, NEGATIVE, inversion, mask), expected)
    torch.testing.assert_close(edit(model, TARGET, NEGATIVE, inversion, mask[0]), expected)


@pytest.mark.parametrize("size", [(48, 96), (96, 48), (48, 60), (200, 100)])
def test_a_mask_of_another_picture_is_refused(size, model, inversion):
    calls = tiny_models.recorded(model)
    with pytest.raises(ValueError, match=f"mask is {size[1]}x{size[0]} pixels, the inverted picture 48x48"):
        edit(calls.model, TARGET, NEGATIVE, inversion, torch.ones(1, *size))
    assert not calls.seen


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_mask_that_is_no_number_is_refused(bad, model, inversion):
    mask = CORNER.clone()
    mask[0, 0, 0] = bad
    with pytest.raises(ValueError, match="mask holds NaN or infinite"):
        edit(model, TARGET, NEGATIVE, inversion, mask)


@pytest.mark.parametrize("cfg", [math.nan, math.inf, -1.0])
def test_a_bad_cfg_is_refused(cfg, model, inversion):
    with pytest.raises(ValueError, match="cfg is"):
        edit(model, TARGET, NEGATIVE, inversion, CORNER, cfg)


def test_what_is_no_inversion_is_refused(model):
    with pytest.raises(ValueError, match="connect DDIM Invert"):
        edit(model, TARGET, NEGATIVE, {"samples": PICTURES}, CORNER)


OTHERS = {
    "latent format": lambda: mixer_model(layout=comfy.latent_formats.SDXL()),
    "type": lambda: mixer_model(ModelType.V_PREDICTION),
    "σ_max": lambda: ModelSamplingContinuousEDM().patch(mixer_model(), "eps", 20.0, 0.03)[0],
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("mask", [CORNER, 0 * CORNER], ids=["mask", "empty mask"])
def test_another_models_inversion_is_refused(mask, what, inversion):
    calls = tiny_models.recorded(OTHERS[what]())
    with pytest.raises(ValueError, match="made by another model"):
        edit(calls.model, TARGET, NEGATIVE, inversion, mask)
    assert not calls.seen


def test_another_checkpoint_of_the_same_family_is_taken(inversion):
    """A LoRA or a finetune decodes too: only what the states mean has to agree."""
    assert edit(mixer_model(strength=0.3), TARGET, NEGATIVE, inversion, CORNER).isfinite().all()
