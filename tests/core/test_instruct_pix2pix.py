"""Equation 3 of InstructPix2Pix against itself, written out term by term."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from guidance_core import add_image_guidance

SHAPES = [(1, 4, 3, 5), (2, 16, 2, 3, 4)]


def slow(text_and_image, image, nothing, text_scale, image_scale):
    """e(∅,∅) + s_I·(e(c_I,∅) − e(∅,∅)) + s_T·(e(c_I,c_T) − e(c_I,∅)), number by number."""
    out = np.empty(nothing.shape)
    for place in np.ndindex(*nothing.shape):
        kept = image_scale * (float(image[place]) - float(nothing[place]))
        told = text_scale * (float(text_and_image[place]) - float(image[place]))
        out[place] = float(nothing[place]) + kept + told
    return torch.from_numpy(out)


def estimates(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scales", [(7.5, 1.5), (1.0, 1.0), (0.0, 0.0), (5.0, 0.0), (0.0, 2.0), (3.0, 1.0)])
def test_it_is_equation_3(shape, scales):
    text_scale, image_scale = scales
    text_and_image, image, nothing = estimates(shape, seed=len(shape))
    guided = image + text_scale * (text_and_image - image)
    found = add_image_guidance(guided, image, nothing, image_scale)
    torch.testing.assert_close(found, slow(text_and_image, image, nothing, text_scale, image_scale))


def test_denoised_predictions_may_stand_for_noise_estimates():
    """x0 = x − σ·e: the weights of the three add up to 1."""
    sigma, (x, *_) = 3.0, estimates(SHAPES[0], seed=9)
    noises = estimates(SHAPES[0], seed=1)
    denoised = [x - sigma * e for e in noises]
    ends = []
    for text_and_image, image, nothing in (noises, denoised):
        ends.append(add_image_guidance(image + 7.5 * (text_and_image - image), image, nothing, 1.5))
    torch.testing.assert_close(ends[1], x - sigma * ends[0])


def test_an_image_scale_of_1_keeps_the_guidance_by_the_text():
    guided, image, nothing = estimates(SHAPES[0], seed=2)
    assert torch.equal(add_image_guidance(guided, image, nothing, 1.0), guided)
