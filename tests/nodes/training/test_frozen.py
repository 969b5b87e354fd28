"""Gradients through a model as ComfyUI loads it: in inference mode, in any precision, without a copy."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from semantic_steering.nodes.host.training.frozen import differentiable


def loaded(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """A network as a loader node leaves it."""
    with torch.inference_mode():
        return torch.nn.Sequential(
            torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.BatchNorm2d(8).eval(), torch.nn.SiLU(),
            torch.nn.Conv2d(8, 4, 3, padding=1),
        ).to(dtype)  # fmt: skip


def gradient(network: torch.nn.Module, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = tiny_models.noise(1, 4, 6, 6).to(dtype).requires_grad_()
    network(x).square().sum().backward()
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_gradients_are_those_of_a_copy(dtype):
    network = loaded(dtype)
    plain = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.BatchNorm2d(8).eval(), torch.nn.SiLU(),
        torch.nn.Conv2d(8, 4, 3, padding=1),
    ).to(dtype)  # fmt: skip
    plain.load_state_dict({name: value.clone() for name, value in network.state_dict().items()})
    with differentiable(network):
        found = gradient(network, dtype)
    assert torch.equal(found, gradient(plain, dtype))
    assert found.abs().max() > 0


def test_without_it_autograd_refuses():
    """What it is there for: should ComfyUI's loading change, it may go."""
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        gradient(loaded())


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_the_network_has_its_own_again(fails):
    network = loaded()
    before = {name: (value, value.clone()) for name, value in network.state_dict(keep_vars=True).items()}
    with pytest.raises(KeyError) if fails else differentiable(network):
        if fails:
            with differentiable(network):
                raise KeyError
        gradient(network)
    for name, value in network.state_dict(keep_vars=True).items():
        own, bits = before[name]
        assert value is own
        assert torch.equal(value, bits)
        assert value.grad is None


def test_nothing_is_copied_and_nothing_of_the_model_is_trained():
    network = loaded()
    places = [value.data_ptr() for value in network.parameters()]
    with differentiable(network):
        gradient(network)
        inside = [*network.parameters()]
        assert [value.data_ptr() for value in inside] == places
        assert not any(value.requires_grad or value.is_inference() or value.grad is not None for value in inside)


def test_a_whole_model_of_the_host():
    with torch.inference_mode():
        model = tiny_models.unet_model()
    network = model.model.diffusion_model
    assert all(value.is_inference() for value in network.parameters())
    context = tiny_models.unet_cond(1)[0][0].clone().requires_grad_()
    with differentiable(network):
        estimate = model.model.apply_model(tiny_models.noise(1, 4, 8, 8), torch.ones(1), c_crossattn=context)
        estimate.square().mean().backward()
    assert context.grad is not None
    assert context.grad.abs().max() > 0
