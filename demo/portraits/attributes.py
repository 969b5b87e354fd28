"""The ten attributes of the SEGA paper's Table 1, the styles, and what cannot be judged together.

Everything that speaks about portraits (renderer, captions, judge, reports) obeys the two tables here.
"""

from __future__ import annotations

import torch
from torch import Tensor

ATTRIBUTES = ("male", "glasses", "smile", "bald", "beard", "hat", "curls", "makeup", "gray_hair", "bangs")
STYLES = ("photo", "sketch", "painting")
INDEX = {name: i for i, name in enumerate(ATTRIBUTES)}

# A bald head has no hair to be curly, gray or cut into bangs: these are absent, not unknown.
BALD_EXCLUDES = ("curls", "bangs", "gray_hair")
# Under a hat nobody can tell; a pencil sketch has no colour.
HIDDEN_BY_HAT = ("bald", "curls", "bangs", "gray_hair")
HIDDEN_BY_SKETCH = ("makeup", "gray_hair")


def consistent(attributes: Tensor) -> Tensor:
    """Attributes [N, 10] with what a bald head excludes switched off."""
    out = attributes.clone()
    for name in BALD_EXCLUDES:
        out[:, INDEX[name]] &= ~attributes[:, INDEX["bald"]]
    return out


def judgeable(attributes: Tensor, style: Tensor) -> Tensor:
    """Which attributes of each portrait can be judged from its picture.

    attributes: bool [N, 10]; style: index into STYLES [N]; returns bool [N, 10].
    """
    known = torch.ones_like(attributes, dtype=torch.bool)
    for name in HIDDEN_BY_HAT:
        known[:, INDEX[name]] &= ~attributes[:, INDEX["hat"]]
    for name in HIDDEN_BY_SKETCH:
        known[:, INDEX[name]] &= style != STYLES.index("sketch")
    return known
