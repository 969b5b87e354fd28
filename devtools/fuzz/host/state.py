"""All that a run could leave behind in a server at rest, as texts by name, to be compared with another time's."""

from __future__ import annotations

import functools
import gc
import hashlib
import itertools
import sys
import threading
import types
import uuid
import weakref
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from typing import Any

import comfy.model_management
import execution
import psutil
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)  # fmt: skip
PARTS = ("_parameters", "_buffers", "_modules")
HOST = ("comfy", "nodes", "execution", "latent_preview", "folder_paths", "server")
SHORT = 100
# Of whose objects the content counts: those of others, such as a tokenizer with its vocabulary, are big and stay.
OPENED = ("comfy.model_patcher", "comfy.sd", "comfy.hooks", "comfy.samplers", "comfy_extras", "nodes")
# How a MODEL is loaded at the moment; what ComfyUI's guider keeps of a run that fails, until its next one.
PASSING = {
    "backup", "backup_buffers", "object_patches_backup", "hook_backup", "cached_hook_patches", "current_hooks",
    "is_injected", "pinned", "hook_mode", "inner_model", "conds", "loaded_models",
}  # fmt: skip
_numbers = itertools.count()
_models: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()  # their numbers, as they were first seen


@functools.cache
def executor() -> Any:
    """The server's one. All that was there when it was looked for first is not looked at later, which takes long."""
    gc.collect()
    found = next(each for each in gc.get_objects() if isinstance(each, execution.PromptExecutor))
    gc.freeze()
    return found


def cached() -> dict[str, Any]:
    """What the nodes of the last prompt gave, as far as it is kept for the next one."""
    outputs = executor().caches.outputs
    found = {name: outputs.get_local(name) for name in outputs.all_node_ids()}
    return {name: entry.outputs for name, entry in found.items() if entry is not None}


def forget(names: list[str]) -> None:
    """Have nodes of the last prompt run anew, should it come again."""
    outputs = executor().caches.outputs
    for name in names:
        outputs.cache.pop(outputs.cache_key_set.get_data_key(name), None)


def state(pack: str, unloaded: bool) -> dict[str, str]:
    """pack: a part of the names of its modules; unloaded: after all models are taken out of memory, else what depends
    on how they are loaded is left out.

    By name: `kept` what the cached outputs are; `module` the hooks of their models' layers; if unloaded, also their
    attributes, and `weights`; `host` functions and classes of ComfyUI; `live` objects of the pack; `threads`; `files`.
    """
    if unloaded:
        comfy.model_management.unload_all_models()
    gc.collect()
    found: dict[str, str] = {}
    patchers: dict[int, ModelPatcher] = {}
    for name, outputs in sorted(cached().items()):
        for slot, values in enumerate(outputs or ()):
            found[f"kept {name} {slot}"] = _short(_Text(patchers, unloaded).of(values))
    for patcher in {id(each.model): each for each in patchers.values()}.values():
        if patcher.model not in _models:
            _models[patcher.model] = next(_numbers)
        root = f"{_models[patcher.model]} {type(patcher.model).__name__}"
        if unloaded:
            found[f"weights {root}"] = _short(_Text({}, unloaded).of(patcher.model.state_dict()))
        for name, module in patcher.model.named_modules():
            found[f"module {root} {name}"] = _short(_of_module(module, unloaded))
    found |= {f"host {name}": text for name, text in _host()}
    found |= {f"live {name}": str(count) for name, count in _live(pack).items()}
    found["threads"] = str(sum(thread.name != "AnyIO worker thread" for thread in threading.enumerate()))
    found["files"] = str(len(psutil.Process().open_files()))
    return found


def _short(text: str) -> str:
    return text if len(text) <= SHORT else hashlib.sha256(text.encode()).hexdigest()


class _Text:
    """A value's content as a text that is the same for equal content; `patchers` gets the MODELs in it."""

    def __init__(self, patchers: dict[int, ModelPatcher], unloaded: bool):
        self.patchers, self.unloaded, self.seen = patchers, unloaded, dict[int, int]()

    def of(self, value: Any) -> str:
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | Enum):
            return repr(value)
        if isinstance(value, uuid.UUID):  # new for each clone
            return "uuid"
        if isinstance(value, torch.dtype | torch.device | type | types.ModuleType):
            return str(value)
        if id(value) in self.seen:
            return f"<{self.seen[id(value)]}>"
        self.seen[id(value)] = len(self.seen)
        if isinstance(value, Tensor):
            return _of_tensor(value)
        if isinstance(value, dict):
            return "{" + ", ".join(f"{self.of(key)}: {self.of(value[key])}" for key in value) + "}"
        if isinstance(value, list | tuple):
            return f"{type(value).__name__}[" + ", ".join(map(self.of, value)) + "]"
        if isinstance(value, set | frozenset):
            return "set[" + ", ".join(sorted(map(self.of, value))) + "]"
        if isinstance(value, functools.partial):
            return f"partial({self.of(value.func)}, {self.of(value.args)}, {self.of(value.keywords)})"
        if isinstance(value, types.MethodType):
            return f"{value.__qualname__} of {self.of(value.__self__)}"
        if isinstance(value, types.FunctionType):
            inside = [self.of(cell.cell_contents) for cell in value.__closure__ or () if _is_set(cell)]
            return f"{value.__module__}.{value.__qualname__}({', '.join(inside)})"
        return self._of_object(value)

    def _of_object(self, value: Any) -> str:
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        if isinstance(value, torch.nn.Module):  # compared by itself
            return name
        inside = dict(getattr(value, "__dict__", {})) if _is_opened(type(value).__module__) else {}
        if isinstance(value, ModelPatcher):
            self.patchers[id(value)] = value
        if not self.unloaded:
            inside = {key: each for key, each in inside.items() if key not in PASSING}
        return f"{name}({self.of(inside)})"


def _is_opened(module: str) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in OPENED) or "custom_nodes" in module


def _is_set(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - of one that is not set yet it raises
    except ValueError:
        return False
    return True


def _of_tensor(value: Tensor) -> str:
    about = f"{type(value).__name__} {list(value.shape)} {value.dtype} {value.device} {value.requires_grad}"
    if value.numel() == 0 or value.device.type == "meta" or value.is_nested:
        return about
    return f"{about} {hashlib.sha256(bits(value)).hexdigest()}"


def bits(value: Tensor) -> bytes:
    return value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()


def _of_module(module: torch.nn.Module, unloaded: bool) -> str:
    own = vars(module)
    content: list[Any] = [[*own[part]] for part in PARTS] + [[*own.get(name, {}).values()] for name in HOOKS]
    content.append("forward" in own)
    if unloaded:
        content.append({name: value for name, value in own.items() if name not in (*HOOKS, *PARTS)})
    return _Text({}, unloaded).of(content)


def _host() -> Iterator[tuple[str, str]]:
    """Functions and classes of ComfyUI's modules, and the classes' own."""
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] in HOST and module is not None:
            owners = [module, *(each for each in vars(module).values() if isinstance(each, type))]
            there = [
                (key, id(value)) for owner in owners for key, value in vars(owner).items()
                if isinstance(value, types.FunctionType | type | staticmethod | classmethod)
            ]  # fmt: skip
            yield name, _short(str(there))


def _live(pack: str) -> Counter[str]:
    """Objects of classes whose module is the pack's, by class."""
    kinds = Counter(type(each) for each in gc.get_objects())
    found = {kind: count for kind, count in kinds.items() if pack in str(kind.__module__)}
    return Counter({f"{kind.__module__.rpartition(pack)[2]}.{kind.__qualname__}": n for kind, n in found.items()})
