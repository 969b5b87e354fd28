"""Small Flux models with packed weights: ComfyUI's own quantised layers, and stand-ins for other packs' layers.

The stand-ins do to the host what the packs' sources do, and no more: city96/ComfyUI-GGUF 795e451 (ops.py, nodes.py)
and the layers of nunchaku-tech/nunchaku 3a3cc3d that nunchaku-tech/ComfyUI-nunchaku dbfd194 puts into Qwen-Image.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.quant_ops
import comfy.sd
import comfy.utils
import family_models
import torch
from random_weights import random_weights
from torch import Tensor

# ComfyUI's names of formats; GGUF's with the bytes of a block and the weights in it.
COMFY = {"fp8 scaled": "float8_e4m3fn", "mxfp8": "mxfp8", "nvfp4": "nvfp4", "int8": "int8_tensorwise"}
GGUF = {"GGUF Q8_0": (34, 32), "GGUF Q4_K": (144, 256)}
NO_WEIGHT = "layers without a weight (Nunchaku's)"
FORMATS = [*COMFY, *GGUF, NO_WEIGHT]
ROW = next(row for row in family_models.ROWS if row.name == "flux")


def packed_name(name: str) -> bool:
    """The layers that quantised files pack: the blocks', not the ones at the ends."""
    return name.endswith(".weight") and "_blocks" in name and "norm" not in name


# --- GGUF's blocks: a row of weights becomes blocks of bytes ----------------------------------------------------------


def _halves(values: Tensor) -> Tensor:
    return values.half().view(torch.uint8).reshape(len(values), 2)


def q8_0(weight: Tensor) -> Tensor:
    """[rows, bytes]: a half-precision step and 32 signed bytes a block."""
    blocks = weight.reshape(-1, 32)
    step = (blocks.abs().amax(1, keepdim=True) / 127).half().float()
    codes = (blocks / step).round().clamp(-127, 127).to(torch.int8).view(torch.uint8)
    return torch.cat([_halves(step[:, 0]), codes], 1).reshape(len(weight), -1)


def q4_k(weight: Tensor) -> Tensor:
    """[rows, bytes]: of a block's 8 parts of 32 weights each has a step and a lowest value, themselves whole multiples
    (here below 16, of 64 that the format has) of two half-precision numbers."""
    parts = weight.reshape(-1, 8, 32)
    low = (-parts.amin(2)).clamp(min=0)
    steps = (parts.amax(2) + low) / 15
    unit, unit_low = (value.amax(1, keepdim=True).div(15).half().float() for value in (steps, low))
    step, lowest = (steps / unit).ceil().clamp(1, 15), (low / unit_low).round().clamp(0, 15)
    codes = (parts + (unit_low * lowest)[..., None]).div((unit * step)[..., None]).round().clamp(0, 15).to(torch.uint8)
    step, lowest = step.to(torch.uint8), lowest.to(torch.uint8)
    scales = torch.cat([step[:, :4], lowest[:, :4], step[:, 4:] | lowest[:, 4:] << 4], 1)
    pairs = codes.reshape(len(codes), 4, 2, 32)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(len(codes), 128)
    return torch.cat([_halves(unit[:, 0]), _halves(unit_low[:, 0]), scales, nibbles], 1).reshape(len(weight), -1)


def unpacked(data: Tensor, kind: str, shape: tuple[int, ...]) -> Tensor:
    """The weights that GGUF's blocks stand for."""
    blocks = data.reshape(-1, GGUF[kind][0])
    if kind == "GGUF Q8_0":
        return (blocks[:, :2].view(torch.float16).float() * blocks[:, 2:].view(torch.int8)).reshape(shape)
    unit, unit_low = (blocks[:, i : i + 2].view(torch.float16).float()[..., None] for i in (0, 2))
    scales, nibbles = blocks[:, 4:16], blocks[:, 16:].reshape(-1, 4, 1, 32)
    step = torch.cat([scales[:, :4], scales[:, 8:] & 15], 1)[..., None]
    lowest = torch.cat([scales[:, 4:8], scales[:, 8:] >> 4], 1)[..., None]
    codes = torch.cat([nibbles & 15, nibbles >> 4], 2).reshape(-1, 8, 32)
    return (unit * step * codes - unit_low * lowest).reshape(shape)


# --- ComfyUI-GGUF: a tensor that tells its shape, layers that unpack and patch at each use, a patcher -----------------


class GGMLTensor(torch.Tensor):
    tensor_type: Any
    tensor_shape: torch.Size
    patches: list

    @staticmethod
    def __new__(cls, data, *, tensor_type, tensor_shape, patches=()):
        return super().__new__(cls, data)

    def __init__(self, data, *, tensor_type, tensor_shape, patches=()):
        self.tensor_type, self.tensor_shape, self.patches = tensor_type, tensor_shape, list(patches)

    def to(self, *args, **kwargs):
        new = super().to(*args, **kwargs)
        new.tensor_type = getattr(self, "tensor_type", None)
        new.tensor_shape = getattr(self, "tensor_shape", new.data.shape)
        new.patches = list(getattr(self, "patches", []))
        return new

    def clone(self, *_, **__):
        return self

    def detach(self):
        return self

    @property
    def shape(self):
        return self.tensor_shape if hasattr(self, "tensor_shape") else self.size()


def is_packed(tensor: Any) -> bool:
    return getattr(tensor, "tensor_type", None) is not None


class GGMLOps(comfy.ops.manual_cast):
    class Linear(comfy.ops.manual_cast.Linear):
        comfy_cast_weights = True

        def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
            torch.nn.Module.__init__(self)
            self.in_features, self.out_features = in_features, out_features
            self.weight: Any = None
            self.bias: Any = None

        def _load_from_state_dict(self, state_dict, prefix, *args):
            for name in ("weight", "bias"):
                value = state_dict.get(prefix + name)
                if value is not None:
                    setattr(self, name, torch.nn.Parameter(value, requires_grad=False))

        def _save_to_state_dict(self, destination, prefix, keep_vars):
            if not is_packed(self.weight):
                return super()._save_to_state_dict(destination, prefix, keep_vars)
            for name in ("weight", "bias"):
                if getattr(self, name) is not None:  # sizes alone, for the host's estimate of memory
                    destination[prefix + name] = torch.zeros_like(getattr(self, name), device="meta")

        def _usable(self, tensor: Any, dtype: torch.dtype) -> Tensor | None:
            if tensor is None:
                return None
            weight = tensor.to(dtype)
            if is_packed(tensor):
                weight = unpacked(torch.Tensor(tensor.data), tensor.tensor_type, tensor.tensor_shape).to(dtype)
            weight = torch.Tensor(weight)
            for patches, key in getattr(tensor, "patches", []):
                weight = comfy.lora.calculate_weight(patches, weight, key)
            return weight

        def forward_comfy_cast_weights(self, input):
            if not is_packed(self.weight):
                return super().forward_comfy_cast_weights(input)
            weight, bias = (self._usable(value, input.dtype) for value in (self.weight, self.bias))
            return torch.nn.functional.linear(input, weight, bias)


class GGUFModelPatcher(comfy.model_patcher.ModelPatcher):
    patch_on_device: Any = False

    def patch_weight_to_device(self, key, device_to=None, inplace_update=False):
        if key not in self.patches:
            return
        weight = comfy.utils.get_attr(self.model, key)
        if is_packed(weight):
            changed = weight.to(device_to)
            changed.patches = [(self.patches[key], key)]  # not added to the bytes: at each use
            comfy.utils.set_attr_param(self.model, key, changed)
        else:
            super().patch_weight_to_device(key, device_to, inplace_update)

    def unpatch_model(self, device_to=None, unpatch_weights=True):
        if unpatch_weights:
            for parameter in self.model.parameters():
                if is_packed(parameter) and getattr(parameter, "patches", []):
                    parameter.patches = []
        return super().unpatch_model(device_to=device_to, unpatch_weights=unpatch_weights)

    def load(self, *args, force_patch_weights=False, **kwargs):
        super().load(*args, force_patch_weights=True, **kwargs)

    def clone(self, *args, **kwargs):
        own, self.__class__ = self.__class__, GGUFModelPatcher
        new = super().clone(*args, **kwargs)
        self.__class__ = own
        return new


def gguf_tensor(weight: Tensor, kind: str) -> Any:
    pack = q8_0 if kind == "GGUF Q8_0" else q4_k
    return GGMLTensor(pack(weight), tensor_type=kind, tensor_shape=weight.shape)


# --- Nunchaku: linear layers whose numbers have other names -----------------------------------------------------------


class SVDQW4A4Linear(torch.nn.Module):
    """The stand-in's numbers are bytes with a step for each output."""

    def __init__(self, layer: torch.nn.Linear):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        steps = layer.weight.abs().amax(1, keepdim=True) / 127
        self.qweight = torch.nn.Parameter((layer.weight / steps).round().to(torch.int8), requires_grad=False)
        self.wscales = torch.nn.Parameter(steps, requires_grad=False)
        self.bias = layer.bias

    @property
    def unpacked(self) -> Tensor:
        return self.qweight * self.wscales

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self.unpacked, self.bias)


# --- Models -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Pair:
    """A packed model, and the plain one that has the weights which it stands for."""

    packed: family_models.Family
    plain: family_models.Family


def weights() -> dict[str, Tensor]:
    return random_weights(ROW.network(ROW.layout), last=family_models.CALM)


def comfy_tensor(weight: Tensor, kind: str) -> Any:
    name = COMFY[kind]
    layout = comfy.quant_ops.QUANT_ALGOS[name]["comfy_tensor_layout"]
    scale = {} if kind in ("mxfp8", "int8") else {"scale": "recalculate"}
    return comfy.quant_ops.QuantizedTensor.from_float(weight, layout, **scale)


def state_of(kind: str, only: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A file of a packed model, and the plain weights that it stands for."""
    plain = weights()
    state: dict[str, Any] = dict(plain)
    for name in filter(only, plain):
        if kind in COMFY:
            found = comfy_tensor(plain[name], kind)
            del state[name]
            state |= found.state_dict(name)
            note = json.dumps({"format": COMFY[kind]}).encode()
            state[name.removesuffix("weight") + "comfy_quant"] = torch.tensor(list(note), dtype=torch.uint8)
            plain[name] = found.dequantize()
        elif kind in GGUF:
            state[name] = gguf_tensor(plain[name], kind)
            plain[name] = unpacked(torch.Tensor(state[name].data), kind, plain[name].shape)
    return state, plain


def flux(kind: str, only: Any = packed_name) -> Pair:
    """The small Flux model of the compatibility page, with the weights of some names packed in one of FORMATS."""
    state, plain = state_of(kind, only)
    if kind in GGUF:
        model = comfy.sd.load_diffusion_model_state_dict(state, model_options={"custom_operations": GGMLOps()})
        model = GGUFModelPatcher.clone(model)
    else:
        model = comfy.sd.load_diffusion_model_state_dict(dict(state))
    if kind == NO_WEIGHT:
        for name in filter(only, list(plain)):
            layer = SVDQW4A4Linear(model.model.get_submodule(f"diffusion_model.{name.removesuffix('.weight')}"))
            comfy.utils.set_attr(model.model, f"diffusion_model.{name.removesuffix('.weight')}", layer)
            plain[name] = layer.unpacked
    return Pair(ROW.family(model), ROW.family(comfy.sd.load_diffusion_model_state_dict(plain)))
