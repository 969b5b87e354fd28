"""What is trained: two low-rank factors beside each layer, in float32, whatever the layer's own weights are."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import comfy.utils
import torch
from comfy.weight_adapter.bypass import get_module_type_info
from torch import Tensor, nn

from ....guidance_core import low_rank_sum
from ..lora.contents import TEXT_ENCODER
from ..lora.fused_layers import called_as_layers
from ..run.travelling import of_entries
from .layers import Layer

UP, DOWN, ALPHA = "lora_up.weight", "lora_down.weight", "alpha"


class Factors:
    """A slider in training. While `applied`, a network's layers have strength·(α/r)·B·A x added to what they give, with
    the `strengths` [entries or 1, 1] of the forward pass; None switches it off. Its tensors are made outside of the
    inference mode that nodes run in, which autograd refuses."""

    def __init__(self, layers: Sequence[Layer], rank: int, alpha: float, seed: int):
        self.layers, self.rank, self.alpha = layers, rank, alpha
        self.strengths: Tensor | None = None
        self.parameters: dict[str, nn.Parameter] = {}
        with torch.inference_mode(False):
            self._begin(torch.Generator().manual_seed(seed))

    def _begin(self, rng: torch.Generator) -> None:
        """As the authors begin: A uniform, of a variance that keeps the size of what it reads, and B zero."""
        for layer in self.layers:
            down, up = _shapes(layer, self.rank)
            bound = math.sqrt(3 / math.prod(down[1:]))
            start = torch.empty(down).uniform_(-bound, bound, generator=rng)
            self.parameters[f"{layer.name}.{DOWN}"] = nn.Parameter(start)
            self.parameters[f"{layer.name}.{UP}"] = nn.Parameter(torch.zeros(up))

    def to(self, device: Any) -> None:
        with torch.inference_mode(False):
            for parameter in self.parameters.values():
                parameter.data = parameter.data.to(device)

    def tensors(self) -> dict[str, Tensor]:
        """The slider as it is now, as LORA_MODEL: of kohya's form, on the CPU."""
        found = {f"{layer.name}.{ALPHA}": torch.tensor(float(self.alpha)) for layer in self.layers}
        return found | {name: value.detach().to("cpu", copy=True) for name, value in self.parameters.items()}

    def load(self, tensors: Mapping[str, Tensor], what: str) -> None:
        """Go on from a slider of the same layers, rank and alpha. what: the input.

        Raises ValueError, before anything changes, saying what differs.
        """
        own = self.tensors()
        missing, more = own.keys() - tensors.keys(), tensors.keys() - own.keys()
        in_encoder = [all(TEXT_ENCODER.search(name) for name in names) for names in (own, tensors)]
        if in_encoder[0] != in_encoder[1]:
            where = "text encoder" if in_encoder[1] else "diffusion model"
            raise ValueError(f"{what} was trained in the {where}: set train to {where}, or disconnect it to begin anew")
        if missing or more:
            name = min(missing or more)
            raise ValueError(
                f"{what} has other layers than layers chooses here: {len(missing)} of {len(own)} tensors are missing, "
                f"{len(more)} have no place, such as {name!r}. Set layers as it was when that slider was trained, or "
                "disconnect it to begin anew"
            )
        for name, value in own.items():
            other = tensors[name]
            sizes, wanted = ("x".join(map(str, each.shape)) for each in (other, value))
            if sizes != wanted:
                raise ValueError(
                    f"{what}: {name!r} is {sizes}, here it is {wanted} (rank {self.rank}); set rank as it was when "
                    "that slider was trained"
                )
            if not torch.isfinite(other).all():
                raise ValueError(
                    f"{what}: {name!r} holds values that are no numbers; connect a slider whose training ended well"
                )
            if name.endswith(ALPHA) and not torch.equal(other.float(), value):
                raise ValueError(
                    f"{what} was trained with an alpha of {float(other):g}, alpha is {self.alpha:g} here; set it to "
                    f"{float(other):g}"
                )
        with torch.inference_mode(False):
            for name, parameter in self.parameters.items():
                parameter.data = tensors[name].to(parameter.data, copy=True)

    @contextlib.contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """network: the host's BaseModel."""
        modules = [comfy.utils.get_attr(network, layer.path) for layer in self.layers]
        handles = [
            module.register_forward_hook(self._hook(layer, module))
            for layer, module in zip(self.layers, modules, strict=True)
        ]
        try:
            with called_as_layers(set(modules)):
                yield
        finally:
            self.strengths = None
            for handle in handles:
                handle.remove()

    def _hook(self, layer: Layer, module: nn.Module) -> Any:
        info, factor = get_module_type_info(module), self.alpha / self.rank
        convolution = {name: info[name] for name in ("stride", "padding", "dilation")} if info["is_conv"] else {}
        down, up = self.parameters[f"{layer.name}.{DOWN}"], self.parameters[f"{layer.name}.{UP}"]

        def add(_: nn.Module, inputs: tuple, output: Tensor) -> Tensor | None:
            if self.strengths is None:
                return None
            strengths = factor * of_entries(self.strengths, len(output), layer.name)
            return output + low_rank_sum(inputs[0].float(), down, up.flatten(1), strengths, **convolution).to(output)

        return add


def _shapes(layer: Layer, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of A and B, as files have them: a convolution's B is one of single cells."""
    inner, outer = layer.sizes
    kernel = tuple(getattr(layer.module, "kernel_size", ()))
    return (rank, inner, *kernel), (outer, rank, *[1] * len(kernel))
