"""The shipped checkpoint in the real ComfyUI, and SEGA on it. Seeds here are used nowhere else."""

from __future__ import annotations

import comfy.model_base
import pytest
import torch

from demo import evaluate
from demo.host.portraits_model import Portraits
from demo.portraits.attributes import ATTRIBUTES
from devtools.figures.evaluate import PROMPT, steer

SEEDS = [9_900_000 + i for i in range(64)]


def test_the_stock_loader_finds_model_text_encoder_and_autoencoder(lab):
    model = lab.model.model
    assert isinstance(model.model_config, Portraits)
    assert model.model_type == comfy.model_base.ModelType.V_PREDICTION
    assert lab.encode("a man with glasses")[0][0].shape == (1, 77, 32)
    picture = torch.rand(1, 128, 128, 3)
    assert lab.vae.encode(picture).shape == (1, 4, 16, 16)
    assert len(model.latent_format.latent_rgb_factors) == 4


@pytest.mark.slow
def test_the_judge_is_right_on_unseen_renders(judge):
    shares = evaluate.judge_accuracy(judge, 1024)
    assert min(shares.values()) >= 0.99, shares


@pytest.mark.slow
def test_the_autoencoder_keeps_unseen_renders(lab):
    assert evaluate.reconstruction(lab, 64) >= 30.0


@pytest.mark.slow
def test_pictures_show_what_their_captions_say(lab, judge):
    """A sample of the evaluation's 512; its shares have an error of a few percent."""
    shares = evaluate.faithfulness(lab, judge, 128)
    assert all(shares[name]["n"] >= 5 for name in ATTRIBUTES)
    mean = sum(shares[name]["present"] for name in ATTRIBUTES) / len(ATTRIBUTES)
    assert mean >= 0.95, shares
    assert min(shares[name]["present"] for name in ATTRIBUTES) >= 0.85, shares


@pytest.mark.slow
def test_sega_adds_glasses_and_keeps_the_rest(lab, judge):
    steered = {"glasses": steer(lab, "glasses")}
    # Without a hat all ten attributes can be judged.
    found = evaluate.sega_edit(lab, judge, steered, True, PROMPT, SEEDS)["glasses"]
    assert found["eligible"] >= 30
    assert found["success"] >= 0.9, found
    assert found["preserved"] >= 0.9, found


def test_a_steered_model_differs_only_where_it_is_told_to(lab):
    """The same seed with a concept of scale 0 is the same picture; with the default scale it is another."""
    positive = lab.encode("a portrait of a person")
    plain = lab.latents(SEEDS[:2], positive)
    assert torch.equal(plain, lab.latents(SEEDS[:2], positive, steer(lab, "glasses", scale=0.0)))
    assert (plain - lab.latents(SEEDS[:2], positive, steer(lab, "glasses"))).abs().mean() > 0.01
