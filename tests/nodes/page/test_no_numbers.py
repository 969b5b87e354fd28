"""A run that ends in values that are no numbers says so under our node, with the setting that most likely did it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import slider_runs
import tiny_models
import torch
from edit_runs import edit, invert, mixer_model
from instruct_runs import Editor, pictures
from semantic_steering.nodes.host.editing.instruct_pix2pix import TwoScaleGuider
from semantic_steering.nodes.host.sega.patch import patch_model
from semantic_steering.nodes.host.sega.settings import Page, SEGASettings
from semantic_steering.nodes.sega import SEGASampler
from semantic_steering.nodes.sliders import SliderLoRALoader
from semantic_steering.nodes.vectors import SEGAApplyVectors

STUB = [tiny_models.stub_cond(seed) for seed in (1, 2, 3)]
UNET = [tiny_models.unet_cond(seed) for seed in (1, 2, 3)]
WORDS = "→ the model gave values that are no numbers: lower "


def breaking(model, below: float = 1e9):
    """The model, whose guided estimates below a noise level are no numbers."""
    model = model.clone()

    def broken(args):
        return args["denoised"] * (torch.nan if float(args["sigma"].flatten()[0]) < below else 1.0)

    model.set_model_sampler_post_cfg_function(broken)
    return model


def under(node, monkeypatch, name: str):
    """A node class as it is executed under an id."""
    monkeypatch.setattr(node, "hidden", SimpleNamespace(unique_id=name, prompt=None, extra_pnginfo=None), raising=False)
    return node


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("below", [1e9, 1.0])  # in all steps, or in the last ones, of which the sizes tell nothing
def test_with_a_concept(page, guided, below):
    concepts = (tiny_models.concept(STUB[2], 0.5),)
    model = patch_model(breaking(tiny_models.stub_model(), below), concepts, SEGASettings(), page=Page("4"))
    tiny_models.sample_cfg(model, STUB[0], STUB[1], 4.0 if guided else 1.0)
    ((node, text),) = page.texts
    assert node == "4"
    assert text.count(WORDS) == 1
    assert text.split("\n")[-1] == f"{WORDS}{'cfg or ' if guided else ''}scale"


def test_with_recorded_vectors(page, monkeypatch):
    model, latent = tiny_models.unet_model(), {"samples": torch.zeros(1, 4, 8, 8)}
    concepts = (tiny_models.concept(UNET[2], 2.0, 0.8, 0.2),)
    run = SEGASampler.execute(model, 1, 3, 3.0, "euler", "normal", UNET[0], UNET[1], latent, concepts=concepts)
    applied = under(SEGAApplyVectors, monkeypatch, "6").execute(breaking(model), run.args[2], 1.5).args[0]
    page.texts.clear()
    tiny_models.sample_cfg(applied, *UNET[:2], start=tiny_models.noise(1, 4, 8, 8))
    assert page.texts == [("6", f"{WORDS}scale or cfg")]


@pytest.mark.parametrize("below", [1e9, 1.0])
def test_with_a_slider(page, monkeypatch, below):
    node = under(SliderLoRALoader, monkeypatch, "3")
    broken = breaking(slider_runs.FAMILY.model, below)
    model = node.execute(broken, "none", 2.0, 0.2, 1.0, "both", None, slider_runs.ONE).args[0]
    page.texts.clear()
    slider_runs.run(model)
    ((name, text),) = page.texts
    assert name == "3"
    assert text.split("\n")[-1] == f"{WORDS}strength or cfg"


@pytest.mark.parametrize("scales", [(7.5, 1.5), (7.5, 1.0)])
def test_with_an_instruction(page, scales):
    editor = Editor()
    image = editor.image(pictures())
    guider = TwoScaleGuider(breaking(editor.model), UNET[0], UNET[1], image, *scales, node="9")
    tiny_models.sample(guider, tiny_models.noise(*image.shape), tiny_models.schedule(editor.model, 3))
    assert page.texts == [("9", f"{WORDS}text_scale or image_scale")]


def test_inside_a_mask(page):
    model, samples = mixer_model(), tiny_models.noise(1, *tiny_models.SIZE, seed=5)
    inversion = invert(model, STUB[0], samples, steps=10).inversion
    page.texts.clear()
    mask = torch.zeros(1, 48, 48)
    mask[:, :24] = 1.0
    result = edit(breaking(model), STUB[1], STUB[2], inversion, mask, 4.0)
    assert page.texts == [("7", f"{WORDS}cfg")]
    assert torch.equal(result[..., 3:, :], samples[..., 3:, :])  # the background is the picture's own all the same


def test_a_run_in_numbers_says_nothing_of_it(page):
    concepts = (tiny_models.concept(STUB[2], 0.5),)
    model = patch_model(breaking(tiny_models.stub_model(), 0.0), concepts, SEGASettings(), page=Page("4"))
    tiny_models.sample_cfg(model, STUB[0], STUB[1])
    assert WORDS not in page.texts[-1][1]
