"""The activity output: where each concept acted, picture by picture, then concept."""

from __future__ import annotations

import pytest
import slow_sega as slow
import tiny_models
import torch
from semantic_steering.nodes.host.sega.activity import Activity
from semantic_steering.nodes.sega import SEGASampler

POSITIVE, NEGATIVE = tiny_models.stub_cond(1), tiny_models.stub_cond(2)
TARGETS = [tiny_models.stub_cond(3), tiny_models.stub_cond(4), tiny_models.stub_cond(5)]


def activity(
    model, concepts, batch=1, steps=4, sampler="euler", momentum=0.0, denoise=1.0, size=tiny_models.SIZE, cfg=4.0
):
    latent = {"samples": torch.zeros(batch, *size)}
    positive, negative = (tiny_models.stub_cond(i, size=size) for i in (1, 2))
    _, maps, *_ = SEGASampler.execute(
        model, 3, steps, cfg, sampler, "normal", positive, negative, latent, denoise, momentum, concepts=tuple(concepts)
    ).args
    return maps


def share(target, threshold, mask=None):
    """Share of channels where γ ≠ 0, by hand, at picture size."""
    difference = (tiny_models.eps_of(target) - tiny_models.eps_of(NEGATIVE)).double().numpy()
    cells = torch.from_numpy((slow.keep(difference, threshold, mask=mask) != 0).mean(axis=1)).float()
    return cells.repeat_interleave(8, 1).repeat_interleave(8, 2)[0]


def test_it_is_the_share_of_channels_that_were_edited():
    maps = activity(tiny_models.stub_model(), [tiny_models.concept(TARGETS[0], threshold=0.8)])
    expected = share(TARGETS[0], 0.8)
    assert maps.shape == (1, 48, 48)
    assert set(expected.unique().tolist()) >= {0.0, 0.25, 0.5}
    torch.testing.assert_close(maps[0], expected)


def test_it_runs_through_the_concepts_of_one_picture_before_the_next():
    masks = torch.zeros(2, 6, 6)
    masks[0, :3], masks[1, 3:] = 1.0, 1.0
    concepts = [
        tiny_models.concept(TARGETS[0], threshold=0.8),
        tiny_models.concept(TARGETS[1], threshold=0.5, mask=masks),
        tiny_models.concept(TARGETS[2], 0.0),  # neutral: silent, but it keeps its place
    ]
    maps = activity(tiny_models.stub_model(), concepts, batch=2)
    assert maps.shape == (2 * 3, 48, 48)
    for picture in range(2):
        mask = masks[picture : picture + 1, None].double().numpy()
        torch.testing.assert_close(maps[3 * picture], share(TARGETS[0], 0.8))
        torch.testing.assert_close(maps[3 * picture + 1], share(TARGETS[1], 0.5, mask))
        assert not maps[3 * picture + 2].any()
    assert maps[1].any()
    assert not torch.equal(maps[1], maps[4])


def test_it_averages_over_the_steps_of_the_window_only():
    """A constant edit gives the same map however few steps the window holds."""
    model = tiny_models.stub_model()
    whole = activity(model, [tiny_models.concept(TARGETS[0], threshold=0.8)], steps=6)
    late = activity(model, [tiny_models.concept(TARGETS[0], threshold=0.8, start=0.6)], steps=6, momentum=0.5)
    # momentum spreads γ over more positions only if they change, and here they don't
    torch.testing.assert_close(late, whole)
    assert whole.any()


def test_a_changing_edit_is_averaged_step_by_step():
    """Two committed steps, by hand."""
    notes = Activity(2)
    first, second = torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    first[0, 0, 0, 0], second[0, :, 0, 0], second[0, 1, 1, 1] = 1.0, -2.0, 0.5
    notes.add({1: first})
    notes.add({1: second})
    maps = notes.maps(torch.Size([1, 4, 2, 2]), (2, 2))
    assert maps.tolist() == [[[0, 0], [0, 0]], [[(0.25 + 1) / 2, 0], [0, 0.25 / 2]]]


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "dpmpp_sde"])
def test_evaluations_between_steps_do_not_count(sampler):
    plain = activity(tiny_models.stub_model(growth=0.01), [tiny_models.concept(TARGETS[0], threshold=0.8)])
    torch.testing.assert_close(
        activity(
            tiny_models.stub_model(growth=0.01), [tiny_models.concept(TARGETS[0], threshold=0.8)], sampler=sampler
        ),
        plain,
    )


def test_a_concept_that_never_acted_is_silent():
    maps = activity(tiny_models.stub_model(), [tiny_models.concept(TARGETS[0], end=0.2)], denoise=0.5)
    assert maps.shape == (1, 48, 48)
    assert not maps.any()


def test_a_videos_frames_are_averaged():
    size = (4, 3, 5, 5)
    model = tiny_models.stub_model(size=size)
    maps = activity(
        model, [tiny_models.concept(tiny_models.stub_cond(3, size=size), threshold=0.8)], batch=1, size=size
    )
    difference = tiny_models.eps_of(tiny_models.stub_cond(3, size=size), size) - tiny_models.eps_of(
        tiny_models.stub_cond(2, size=size), size
    )
    cells = torch.from_numpy((slow.keep(difference.double().numpy(), 0.8) != 0).mean(axis=(1, 2))).float()
    torch.testing.assert_close(maps, cells.repeat_interleave(8, 1).repeat_interleave(8, 2))


def test_its_size_is_the_latent_formats_own():
    model = tiny_models.stub_model()
    model.model.latent_format.spacial_downscale_ratio = 16
    assert activity(model, [tiny_models.concept(TARGETS[0])]).shape == (1, 96, 96)


@pytest.mark.parametrize("batch", [1, 3])
def test_without_concepts_it_is_black(batch):
    maps = activity(tiny_models.stub_model(), [], batch=batch)
    assert maps.shape == (batch, 48, 48)
    assert not maps.any()
