"""What is said where a run ended in values that are no numbers: a black picture, or none at all."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from .messages import Message, joined, message
from .progress import show_text

logger = logging.getLogger("semantic_steering")


def not_numbers(settings: Sequence[str]) -> Message:
    """settings: what to lower, the most likely first."""
    return message("not_numbers", what=joined("or", settings))


def advice_on(result: Tensor, settings: Sequence[str]) -> list[Message]:
    """A line about a run's result; none where all its values are numbers. Waits for the device."""
    return [] if bool(torch.isfinite(result).all()) else [message("advice", advice=not_numbers(settings))]


def warn(result: Tensor, settings: Sequence[str], title: str, node: str | None = None) -> None:
    """Have the log and the page say it of a run's result, if there is anything to say. title: of the node; node: its
    id, by default the one that is being executed."""
    for line in advice_on(result, settings):
        logger.warning("%s: %s", title, line)
        show_text(line, node)
