"""An evaluation's arithmetic never makes the host wait for the device.

Run on torch's meta device, which holds no values: whatever would read one back (item, bool, nonzero, a copy to the CPU)
is an error there.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from guidance_core import Concept, Momentum, SigmaWindow, edit_term, noise_difference

META = torch.device("meta")
LATENT = (2, 4, 64, 64)
AT_ONCE = 64 * 1024  # bytes that CUDA takes out of ordinary memory without waiting


class Copies(TorchDispatchMode):
    """Notes the bytes of every tensor that goes from the CPU to the device."""

    def __init__(self):
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].device.type == "cpu" and found.device == META:
            self.sizes.append(found.nbytes)
        return found


@pytest.mark.parametrize("over", ["channel", "latent"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", [5.0, (5.0, -3.0), (5.0, 0.0)])
@pytest.mark.parametrize("momentum", [Momentum(0.0), Momentum(0.1, 0.4)])
def test_the_edit_term_reads_nothing_back(momentum, scale, masked, over):
    thresholds = [0.9, 0.95, 0.3]
    windows = [SigmaWindow(10.0, 0.0), SigmaWindow(8.0, 0.0), SigmaWindow(3.0, 0.0)]
    concepts = [Concept(scale, *settings) for settings in zip(thresholds, windows, strict=True)]
    base = torch.zeros(LATENT, device=META)
    masks = {1: torch.zeros(1, 1, 64, 64, device=META)} if masked else None
    copies = Copies()
    with copies:
        differences = {i: noise_difference(torch.zeros(LATENT, device=META), base, 5.0) for i in range(3)}
        gamma, nu = edit_term(differences, concepts, 5.0, momentum, {}, over, masks)
        gamma, nu = edit_term(differences, concepts, 2.0, momentum, nu, over, masks)
    assert set(gamma) == {0, 1, 2}
    assert all(term.device == META for term in (*gamma.values(), *nu.values()))
    assert max(copies.sizes) <= AT_ONCE
    assert len(copies.sizes) <= 10  # two evaluations: ranks, weights, scales, and which pictures are warm
