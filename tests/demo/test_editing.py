"""Editing given pictures on the shipped checkpoint. Seeds here are used nowhere else."""

from __future__ import annotations

import pytest
import torch

from devtools.figures import editing as evaluate_editing

SEED = 92_001


@pytest.mark.slow
@torch.no_grad()
def test_a_picture_comes_back_from_its_noise(lab):
    """Fixed point at its defaults, decoded with the same prompt by DiffEdit Sampler with a mask that is all 1."""
    _, pictures = evaluate_editing.photos(4, SEED)
    latents, empty = lab.vae.encode(pictures.movedim(1, -1)), lab.encode("")
    node = evaluate_editing.pack("nodes.inversion").DDIMInvert
    for denoise in (0.8, 1.0):
        inversion = node.execute(lab.model, empty, {"samples": latents}, denoise=denoise).result[0]
        decoded = evaluate_editing.decode(lab, inversion, empty, empty, 1.0)
        assert evaluate_editing.decibels(decoded, latents).min() >= 45.0


@pytest.mark.slow
def test_masks_meet_the_true_regions(lab):
    found = evaluate_editing.masks(lab, 16, quick=True, seed=SEED + 1)
    assert found["pairs"] >= 100
    assert found["table"][0]["iou"]["0.5"] >= 0.5, found


@pytest.mark.slow
def test_diffedit_edits_as_often_as_sdedit_and_touches_the_rest_less(lab, judge):
    curves = evaluate_editing.edits(lab, judge, 2, quick=True, seed=SEED + 2)["curves"]
    (diffedit,), (sdedit,) = curves["DiffEdit"], curves["SDEdit"]
    assert diffedit["success"] >= 0.7, diffedit
    assert diffedit["background_error"] < 0.5 * sdedit["background_error"], (diffedit, sdedit)


def test_the_pairs_switch_one_attribute_and_name_it(lab):
    portraits, _ = evaluate_editing.photos(8, SEED + 3)
    pairs = evaluate_editing.pairs_of(portraits)
    assert {pair.attribute for pair in pairs} >= {"glasses", "smile", "beard", "hat"}
    for pair in pairs:
        assert pair.cells.any() and pair.region.float().mean() <= evaluate_editing.LARGEST_REGION
        assert evaluate_editing.text(portraits, pair, True) != evaluate_editing.text(portraits, pair, False)
    assert torch.equal(evaluate_editing.overlap(pairs[0].cells[None], pairs[0].cells[None]), torch.ones(1))
