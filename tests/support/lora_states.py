"""Random LoRA files in every format, for any model of ComfyUI."""

from __future__ import annotations

import math
from typing import Any

import comfy.lora
import tiny_models
import torch
from torch import Tensor

RANK = 3
SIZE = 0.3  # of a layer's change against its weight


def targets(model: Any, prefix: str, keep: Any = lambda name: True) -> dict[str, tuple[int, ...]]:
    """{a layer's name in a file: the shape of its weight} for the names with a prefix, one for each weight: the one
    that the host takes."""
    shapes = {key: tuple(value.shape) for key, value in model.model.state_dict().items()}
    found: dict[Any, tuple[str, tuple[int, ...]]] = {}
    for name, target in comfy.lora.model_lora_keys_unet(model.model, {}).items():
        key, offset = (target, None) if isinstance(target, str) else target[:2]
        if not (name.startswith(prefix) and key.endswith(".weight") and len(shapes.get(key, ())) > 1 and keep(name)):
            continue
        shape = list(shapes[key])
        if offset is not None:
            shape[offset[0]] = offset[2]
        found[target] = name, tuple(shape)
    return dict(found.values())


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / math.sqrt(math.prod(shape[1:]) or 1)


def kohya(layers: dict[str, tuple[int, ...]], seed: int = 0, alpha: float | None = 2.0) -> dict[str, Tensor]:
    """lora_up, lora_down and alpha: kohya's and the slider authors' files."""
    state = {}
    for i, (name, shape) in enumerate(layers.items()):
        state[f"{name}.lora_down.weight"] = random(RANK, *shape[1:], seed=seed + 2 * i)
        state[f"{name}.lora_up.weight"] = SIZE * random(shape[0], RANK, *[1] * (len(shape) - 2), seed=seed + 2 * i + 1)
        if alpha is not None:
            state[f"{name}.alpha"] = torch.tensor(alpha)
    return state


def peft(layers: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """lora_A and lora_B, as PEFT saves them."""
    ends = {"lora_down": "lora_A", "lora_up": "lora_B"}
    found = kohya(layers, seed, None)
    return {".".join(ends.get(part, part) for part in key.split(".")): value for key, value in found.items()}


def diffusers(layers: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """The older attention processors of diffusers."""
    found = kohya(layers, seed, None)
    return {key.replace(".lora_", "_lora."): value for key, value in found.items()}


def full(layers: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """The whole difference of weights and biases."""
    state = {}
    for i, (name, shape) in enumerate(layers.items()):
        state[f"{name}.diff"] = SIZE * random(*shape, seed=seed + 2 * i)
        state[f"{name}.diff_b"] = 0.1 * random(shape[0], 1, seed=seed + 2 * i + 1)[:, 0]
    return state


def tucker(layers: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """kohya's convolutions with a middle factor that holds the kernel."""
    state = {}
    for i, (name, shape) in enumerate(layers.items()):
        ones = [1] * (len(shape) - 2)
        state[f"{name}.lora_down.weight"] = random(RANK, shape[1], *ones, seed=seed + 3 * i)
        state[f"{name}.lora_mid.weight"] = random(RANK, RANK, *shape[2:], seed=seed + 3 * i + 1)
        state[f"{name}.lora_up.weight"] = SIZE * random(shape[0], RANK, *ones, seed=seed + 3 * i + 2)
        state[f"{name}.alpha"] = torch.tensor(2.0)
    return state


def loha(layers: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    state = {}
    for i, (name, shape) in enumerate(layers.items()):
        for j, part in enumerate(("w1", "w2")):
            state[f"{name}.hada_{part}_a"] = 2 * random(shape[0], RANK, seed=seed + 9 * i + 2 * j)
            state[f"{name}.hada_{part}_b"] = random(RANK, math.prod(shape[1:]), seed=seed + 9 * i + 2 * j + 1)
        state[f"{name}.alpha"] = torch.tensor(2.0)
    return state


def lokr(layers: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    state = {}
    for i, (name, shape) in enumerate(layers.items()):
        state[f"{name}.lokr_w1"] = random(2, 2, seed=seed + 2 * i)
        state[f"{name}.lokr_w2"] = 3 * SIZE * random(shape[0] // 2, shape[1] // 2, *shape[2:], seed=seed + 2 * i + 1)
    return state


def even(layers: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Those that a Kronecker product with a 2 x 2 factor can make."""
    return {name: shape for name, shape in layers.items() if shape[0] % 2 == 0 and shape[1] % 2 == 0}


def dora(layers: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """kohya's with the magnitudes of a DoRA."""
    return kohya(layers, seed) | {
        f"{name}.dora_scale": 1 + 0.1 * random(shape[0], 1, seed=seed + i)
        for i, (name, shape) in enumerate(layers.items())
    }


def oft(layers: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Orthogonal rotations of the output channels."""
    state = {}
    for i, (name, shape) in enumerate(layers.items()):
        state[f"{name}.oft_blocks"] = 0.1 * random(shape[0] // 4, 4, 4, seed=seed + i)
    return state


LDM = ("input_blocks", "middle_block", "output_blocks", "time_embed", "out_")


def ldm(name: str) -> bool:
    """A UNet's layer by its name in the checkpoint; the others are diffusers' names of the same layers."""
    return name.removeprefix("lora_unet_").startswith(LDM)


def authors(name: str) -> bool:
    """A UNet's layer by the name that the slider authors' files use."""
    return not ldm(name)


def unet(seed: int = 0, keep: Any = ldm, **options: Any) -> dict[str, Tensor]:
    """A slider for tiny_models.unet_model."""
    return kohya(targets(tiny_models.unet_model(), "lora_unet_", keep), seed, **options)
