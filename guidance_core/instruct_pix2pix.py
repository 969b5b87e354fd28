"""InstructPix2Pix (Brooks et al. 2022, arXiv:2211.09800): guidance by a picture beside the guidance by a text."""

from __future__ import annotations

from torch import Tensor


def add_image_guidance(guided: Tensor, negative: Tensor, without_image: Tensor, image_scale: float) -> Tensor:
    """Equation 3 of the paper, from the part of it that is guidance by the text:

        e(∅,∅) + s_I·(e(c_I,∅) − e(∅,∅)) + s_T·(e(c_I,c_T) − e(c_I,∅))  =  g + (s_I − 1)·(e(c_I,∅) − e(∅,∅))
        g = e(c_I,∅) + s_T·(e(c_I,c_T) − e(c_I,∅)), classifier-free guidance with the picture on both sides

    guided: g; negative: e(c_I,∅), the negative text with the picture; without_image: e(∅,∅), the negative text with a
    picture of zeros; all [B, C, ...]; image_scale: s_I. The weights of the three estimates add up to 1, so denoised
    predictions may stand for noise estimates throughout.
    """
    return guided + (image_scale - 1) * (negative - without_image)
