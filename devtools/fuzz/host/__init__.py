"""A ComfyUI pack for `dev.py fuzz`: values in the shapes that users make, and a look at what comes out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from comfy_api.latest import ComfyExtension, io
from torch import Tensor

from . import routes  # noqa: F401 - they are there by being imported
from .models import WIDTH, FuzzEditModel, FuzzModel
from .state import bits

NAN, INF = float("nan"), float("inf")


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def picture(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def latents() -> dict[str, Callable[[], Any]]:
    one = lambda: noise(1, 4, 8, 8)  # noqa: E731
    return {
        "good": lambda: {"samples": torch.zeros(1, 4, 8, 8)},
        "batch of 0": lambda: {"samples": noise(0, 4, 8, 8)},
        "batch of 3": lambda: {"samples": noise(3, 4, 8, 8)},
        "video": lambda: {"samples": noise(1, 4, 2, 8, 8)},
        "no batch": lambda: {"samples": noise(4, 8, 8)},
        "half": lambda: {"samples": one().half()},
        "bfloat16": lambda: {"samples": one().bfloat16()},
        "double": lambda: {"samples": one().double()},
        "whole numbers": lambda: {"samples": torch.ones(1, 4, 8, 8, dtype=torch.int64)},
        "16 channels": lambda: {"samples": noise(1, 16, 8, 8)},
        "1 channel": lambda: {"samples": noise(1, 1, 8, 8)},
        "odd size": lambda: {"samples": noise(1, 4, 7, 9)},
        "one cell": lambda: {"samples": noise(1, 4, 1, 1)},
        "no cell": lambda: {"samples": noise(1, 4, 0, 8)},
        "transposed": lambda: {"samples": noise(1, 8, 8, 4).movedim(-1, 1)},
        "with gradient": lambda: {"samples": one().requires_grad_()},
        "huge": lambda: {"samples": one() * 1e30},
        "nan": lambda: {"samples": one().fill_(NAN)},
        "noise mask of another size": lambda: {"samples": one(), "noise_mask": torch.ones(1, 1, 64, 48)},
        "noise mask of two dimensions": lambda: {"samples": one(), "noise_mask": torch.ones(8, 8)},
        "noise mask of 0": lambda: {"samples": one(), "noise_mask": torch.zeros(1, 1, 8, 8)},
        "noise mask of three": lambda: {"samples": one(), "noise_mask": torch.ones(3, 8, 8)},
        "batch index": lambda: {"samples": one(), "batch_index": [7]},
        "too long a batch index": lambda: {"samples": one(), "batch_index": [7, 8, 9]},
        "nothing in it": dict,
        "samples of None": lambda: {"samples": None},
    }


def images() -> dict[str, Callable[[], Any]]:
    return {
        "good": lambda: picture(1, 64, 64, 3),
        "batch of 0": lambda: picture(0, 64, 64, 3),
        "batch of 3": lambda: picture(3, 64, 64, 3),
        "gray": lambda: picture(1, 64, 64, 1),
        "with transparency": lambda: picture(1, 64, 64, 4),
        "two channels": lambda: picture(1, 64, 64, 2),
        "no batch": lambda: picture(64, 64, 3),
        "video": lambda: picture(1, 2, 64, 64, 3),
        "half": lambda: picture(1, 64, 64, 3).half(),
        "double": lambda: picture(1, 64, 64, 3).double(),
        "bytes": lambda: (picture(1, 64, 64, 3) * 255).byte(),
        "0 to 255": lambda: picture(1, 64, 64, 3) * 255,
        "below 0": lambda: picture(1, 64, 64, 3) - 1,
        "odd size": lambda: picture(1, 61, 35, 3),
        "one pixel": lambda: picture(1, 1, 1, 3),
        "no pixel": lambda: picture(1, 0, 64, 3),
        "a long strip": lambda: picture(1, 8, 2048, 3),
        "flipped": lambda: picture(1, 64, 64, 3).flip(1).transpose(1, 2),
        "nan": lambda: picture(1, 64, 64, 3).fill_(NAN),
    }


def masks() -> dict[str, Callable[[], Any]]:
    return {
        "good": lambda: torch.ones(1, 64, 64),
        "batch of 0": lambda: torch.ones(0, 64, 64),
        "batch of 3": lambda: torch.ones(3, 64, 64),
        "no batch": lambda: torch.ones(64, 64),
        "four dimensions": lambda: torch.ones(1, 1, 64, 64),
        "five dimensions": lambda: torch.ones(1, 1, 1, 64, 64),
        "with channels": lambda: torch.ones(1, 64, 64, 3),
        "another size": lambda: torch.ones(1, 48, 80),
        "one pixel": lambda: torch.ones(1, 1, 1),
        "no pixel": lambda: torch.ones(1, 0, 64),
        "black": lambda: torch.zeros(1, 64, 64),
        "a point": lambda: torch.nn.functional.pad(torch.ones(1, 1, 1), (10, 53, 10, 53)),
        "above 1": lambda: torch.full((1, 64, 64), 2.0),
        "below 0": lambda: torch.full((1, 64, 64), -1.0),
        "half": lambda: torch.ones(1, 64, 64).half(),
        "double": lambda: torch.ones(1, 64, 64).double(),
        "bool": lambda: torch.ones(1, 64, 64).bool(),
        "bytes": lambda: torch.full((1, 64, 64), 255).byte(),
        "nan": lambda: torch.full((1, 64, 64), NAN),
        "infinite": lambda: torch.full((1, 64, 64), INF),
    }


def conditionings() -> dict[str, Callable[[], Any]]:
    good = lambda **also: [[noise(1, 77, WIDTH), dict(also)]]  # noqa: E731
    return {
        "good": good,
        "empty": list,
        "another family": lambda: [[noise(1, 77, 768), {}]],
        "of SDXL": lambda: [[noise(1, 77, 2048), {"pooled_output": noise(1, 1280), "width": 1024, "height": 1024}]],
        "pooled": lambda: good(pooled_output=noise(1, WIDTH)),
        "pooled of None": lambda: good(pooled_output=None),
        "no words": lambda: [[noise(1, 0, WIDTH), {}]],
        "other length": lambda: [[noise(1, 231, WIDTH), {}]],
        "batch of 2": lambda: [[noise(2, 77, WIDTH), {}]],
        "batch of 0": lambda: [[noise(0, 77, WIDTH), {}]],
        "two dimensions": lambda: [[noise(77, WIDTH), {}]],
        "half": lambda: [[noise(1, 77, WIDTH).half(), {}]],
        "double": lambda: [[noise(1, 77, WIDTH).double(), {}]],
        "nan": lambda: [[noise(1, 77, WIDTH).fill_(NAN), {}]],
        "two parts": lambda: [*good(), *good(strength=0.5)],
        "strength of 0": lambda: good(strength=0.0),
        "area": lambda: good(area=(4, 4, 0, 0), strength=1.0),
        "area outside": lambda: good(area=(64, 64, 32, 32), strength=1.0),
        "mask": lambda: good(mask=torch.ones(1, 64, 64), mask_strength=1.0, set_area_to_bounds=False),
        "black mask": lambda: good(mask=torch.zeros(1, 64, 64), mask_strength=1.0, set_area_to_bounds=False),
        "late": lambda: good(start_percent=0.9, end_percent=1.0),
        "never": lambda: good(start_percent=1.0, end_percent=0.0),
        "no tensor": lambda: [[None, {}]],
    }


def sliders() -> dict[str, Callable[[], Any]]:
    layer = "diffusion_model.input_blocks.3.1.transformer_blocks.0.attn1.to_q"

    def pair(down: Tensor, up: Tensor, name: str = layer, **also: Any) -> dict[Any, Any]:
        return {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, **also}

    good = lambda **also: pair(noise(4, 128), noise(128, 4), **also)  # noqa: E731
    return {
        "good": good,
        "empty": dict,
        "None": lambda: None,
        "a list": list,
        "keys of numbers": lambda: {1: noise(4, 4), **good()},
        "values of text": lambda: {f"{layer}.lora_up.weight": "weights"},
        "half a pair": lambda: {f"{layer}.lora_up.weight": noise(128, 4)},
        "other widths": lambda: pair(noise(4, 320), noise(320, 4)),
        "rank of 0": lambda: pair(noise(0, 128), noise(128, 0)),
        "ranks that differ": lambda: pair(noise(4, 128), noise(128, 3)),
        "one number": lambda: pair(torch.tensor(1.0), torch.tensor(1.0)),
        "unknown layers": lambda: pair(noise(4, 128), noise(128, 4), "diffusion_model.blocks.99.q"),
        "another layer besides": lambda: {**good(), "other.lora_up.weight": noise(4, 4)},
        "nan": lambda: pair(noise(4, 128).fill_(NAN), noise(128, 4)),
        "huge": lambda: pair(noise(4, 128) * 1e30, noise(128, 4) * 1e30),
        "half": lambda: pair(noise(4, 128).half(), noise(128, 4).half()),
        "double": lambda: pair(noise(4, 128).double(), noise(128, 4).double()),
        "float8": lambda: pair(noise(4, 128).to(torch.float8_e4m3fn), noise(128, 4).to(torch.float8_e4m3fn)),
        "whole numbers": lambda: pair(torch.ones(4, 128, dtype=torch.int8), torch.ones(128, 4, dtype=torch.int8)),
        "alpha of nan": lambda: good(**{f"{layer}.alpha": torch.tensor(NAN)}),
        "alpha of many": lambda: good(**{f"{layer}.alpha": noise(3)}),
        "nested": lambda: {"state_dict": good()},
        "with gradient": lambda: pair(noise(4, 128).requires_grad_(), noise(128, 4).requires_grad_()),
    }


def sigmas() -> dict[str, Callable[[], Any]]:
    return {
        "good": lambda: torch.tensor([14.0, 3.0, 0.0]),
        "empty": lambda: torch.zeros(0),
        "one": lambda: torch.tensor([1.0]),
        "rising": lambda: torch.tensor([0.1, 3.0, 14.0]),
        "equal": lambda: torch.tensor([3.0, 3.0, 3.0]),
        "zeros": lambda: torch.zeros(3),
        "below 0": lambda: torch.tensor([14.0, 3.0, -1.0]),
        "without the end": lambda: torch.tensor([14.0, 3.0]),
        "huge": lambda: torch.tensor([1e30, 1.0, 0.0]),
        "half": lambda: torch.tensor([14.0, 3.0, 0.0]).half(),
        "double": lambda: torch.tensor([14.0, 3.0, 0.0]).double(),
        "two dimensions": lambda: torch.ones(1, 3),
        "nan": lambda: torch.tensor([14.0, NAN, 0.0]),
    }


def floats() -> dict[str, Callable[[], Any]]:
    values = (0.5, NAN, INF, -INF, 1e300, -1e300, 1e-300, -1, 10**30, True, "0.5", "a word", None)
    return {str(value) if not isinstance(value, str) else f"text {value}": (lambda it=value: it) for value in values}


def ints() -> dict[str, Callable[[], Any]]:
    values = (1, 0, -1, 2**31, 2**63, 10**30, 1.5, NAN, INF, True, "3", "a word", None)
    return {str(value) if not isinstance(value, str) else f"text {value}": (lambda it=value: it) for value in values}


def strings() -> dict[str, Callable[[], Any]]:
    return {
        "good": lambda: "glasses",
        "empty": lambda: "",
        "surrogate": lambda: "glasses \ud800",
        "None": lambda: None,
        "number": lambda: 5,
        "a list": lambda: ["glasses"],
        "bytes": lambda: b"glasses",
    }


KINDS = {
    "LATENT": latents(), "IMAGE": images(), "MASK": masks(), "CONDITIONING": conditionings(), "LORA_MODEL": sliders(),
    "SIGMAS": sigmas(), "FLOAT": floats(), "INT": ints(), "STRING": strings(), "BOOLEAN": ints(),
}  # fmt: skip


def source(kind: str) -> type[io.ComfyNode]:
    """A node that gives values of a type: `Fuzz LATENT` and so on. nonce: what makes it run anew."""

    class Source(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> io.Schema:
            return io.Schema(
                node_id=f"Fuzz{kind}", category="fuzz",
                inputs=[
                    io.Combo.Input("which", options=list(KINDS[kind])),
                    io.Int.Input("nonce", default=0, optional=True),
                ],
                outputs=[io.Custom(kind).Output()],
            )  # fmt: skip

        @classmethod
        def execute(cls, which, nonce=0) -> io.NodeOutput:
            return io.NodeOutput(KINDS[kind][which]())

    Source.__name__ = f"Fuzz{kind}"
    return Source


def tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """All tensors of a value and of what it consists of; not those of models."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for key in value:
            yield from tensors(value[key], seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item, seen)


class FuzzCheck(io.ComfyNode):
    """Says whether all numbers of a value are finite, and what its bits are."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FuzzCheck", category="fuzz", inputs=[io.AnyType.Input("value")], outputs=[], is_output_node=True
        )

    @classmethod
    def execute(cls, value) -> io.NodeOutput:
        found = [*tensors(value, set())]
        digest = hashlib.sha256(b"".join(map(bits, found)))
        finite = all(bool(torch.isfinite(tensor.float()).all()) for tensor in found)
        return io.NodeOutput(ui={"fuzz": [{"finite": finite, "bits": digest.hexdigest()}]})


class Fuzz(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [FuzzCheck, FuzzModel, FuzzEditModel, *map(source, KINDS)]


async def comfy_entrypoint() -> Fuzz:
    return Fuzz()
