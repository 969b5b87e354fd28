"""A prompt's embedding moved along two texts: the equation number by number, and what holds at every strength."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guidance_core import along_texts

STRENGTHS = st.floats(-20, 20).filter(lambda s: abs(s) > 1e-3)


def texts(*tokens: int, width: int = 6, seed: int = 0) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(1, count, width, generator=rng, dtype=torch.float64) for count in tokens]


@pytest.mark.parametrize("strength", [-2.0, -0.5, 1.0, 3.0])
def test_it_is_the_equation(strength):
    features, plus, minus = texts(5, 5, 5)
    found = along_texts(features, plus, minus, strength)
    for token in range(5):
        rows = [each[0, token].tolist() for each in (features, plus, minus)]
        moved = [c + strength * (p - m) for c, p, m in zip(*rows, strict=True)]
        longer = math.hypot(*rows[0]) / math.hypot(*moved)
        assert found[0, token].tolist() == pytest.approx([value * longer for value in moved])


@given(strength=STRENGTHS, seed=st.integers(0, 1000))
def test_every_token_keeps_its_length(strength, seed):
    features, plus, minus = texts(4, 4, 4, seed=seed)
    assert torch.allclose(along_texts(features, plus, minus, strength).norm(dim=-1), features.norm(dim=-1))


def test_from_one_pole_a_strength_of_1_leads_to_the_other():
    """Of encoders whose tokens are of one length, as a last norm makes them."""
    plus, minus = (each / each.norm(dim=-1, keepdim=True) for each in texts(4, 4))
    assert torch.allclose(along_texts(plus, plus, minus, -1.0), minus)
    assert torch.allclose(along_texts(minus, plus, minus, 1.0), plus)


def test_opposite_strengths_are_the_poles_exchanged():
    features, plus, minus = texts(4, 4, 4)
    assert torch.equal(along_texts(features, plus, minus, -1.5), along_texts(features, minus, plus, 1.5))


def test_at_0_and_between_equal_texts_nothing_moves():
    features, plus, minus = texts(4, 4, 4)
    assert along_texts(features, plus, minus, 0.0) is features
    assert torch.allclose(along_texts(features, plus, plus, 3.0), features, rtol=1e-15)


@pytest.mark.parametrize("tokens", [(6, 4, 5), (4, 6, 5), (4, 4, 4)])
def test_a_place_that_a_text_lacks_is_not_moved(tokens):
    features, plus, minus = texts(*tokens)
    common = min(tokens)
    found = along_texts(features, plus, minus, 2.0)
    assert found.shape == features.shape
    assert torch.equal(found[:, common:], features[:, common:])
    alone = [each[:, :common] for each in (features, plus, minus)]
    assert torch.equal(found[:, :common], along_texts(*alone, 2.0))


def test_pooled_features_and_those_of_many_layers():
    features, plus, minus = (each[0, :1] for each in texts(1, 1, 1))
    as_token = along_texts(features[None], plus[None], minus[None], 2.0)
    assert torch.equal(along_texts(features, plus, minus, 2.0), as_token[0])
    layers = [torch.stack([each, 2 * each], dim=1) for each in texts(3, 3, 3)]  # [1, layers, tokens, width]
    found = along_texts(*layers, 2.0)
    assert torch.equal(found[:, 0], along_texts(*texts(3, 3, 3), 2.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_result_has_the_conditionings_precision(dtype):
    features, plus, minus = (each.to(dtype) for each in texts(4, 4, 4))
    found = along_texts(features, plus, minus, 1.0)
    exact = along_texts(*(each.double() for each in (features, plus, minus)), 1.0)
    assert found.dtype == dtype
    assert torch.equal(found, exact.to(dtype))


def test_zeros_stay_zeros():
    """Of Conditioning Zero Out; and a token that is moved to nothing is no NaN."""
    features, plus, minus = texts(3, 3, 3)
    assert torch.equal(along_texts(features * 0, plus, minus, 1.0), features * 0)
    assert torch.isfinite(along_texts(minus - plus, plus, minus, 1.0)).all()


def test_what_does_not_fit_is_refused():
    features, plus, minus = texts(3, 3, 3)
    with pytest.raises(ValueError, match=r"embeddings of 4 numbers, those of conditioning have 6.*connect the clip"):
        along_texts(features, plus[..., :4], minus[..., :4], 1.0)
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=r"strength is .*; it must be a number"):
            along_texts(features, plus, minus, value)
