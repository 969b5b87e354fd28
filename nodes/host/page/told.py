"""What was said of a run, for nodes after it: it travels with the latent's own tensor, as long as that lives (in
ComfyUI's cache as well)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ..run.samplers import handed_on
from .messages import Message, lines

METADATA = "semantic_steering"  # of saved pictures
_told = WeakIdKeyDictionary()


def tell(samples: Tensor, text: Message) -> Tensor:
    """Have a text travel with a run's result, after those that it has; returns that result as the host hands it on."""
    samples = handed_on(samples)
    _told[samples] = (*_texts(samples), text)
    return samples


def told(samples: Tensor) -> Message | None:
    """All that travels with a latent; None where nothing was said of it."""
    texts = _texts(samples)
    return lines(texts) if texts else None


def _texts(samples: Tensor) -> tuple[Message, ...]:
    return _told.get(samples) or ()


def into_metadata(hidden: Any, text: str) -> None:
    """Have pictures that are saved later in this prompt carry what a node that asks for extra_pnginfo and unique_id
    says, by its id; nothing where the prompt carries none."""
    if hidden is not None and hidden.extra_pnginfo is not None:
        hidden.extra_pnginfo.setdefault(METADATA, {})[hidden.unique_id] = str(text)
