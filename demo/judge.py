"""The judge: an attribute classifier that is trained on renders and has never seen a generated picture."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .config import CONFIG
from .files import whole
from .portraits.attributes import ATTRIBUTES

WEIGHTS = Path(__file__).parent / "models" / "judge.safetensors"


def network() -> nn.Sequential:
    """Strided convolutions on the picture at half size, then one logit an attribute."""
    widths = CONFIG.judge.channels
    layers: list[nn.Module] = [nn.AvgPool2d(2)]
    for before, after in zip((3, *widths), widths, strict=False):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.ReLU()]
        layers += [nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(8, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 16, len(ATTRIBUTES)))


class Judge:
    """Attribute logits and probabilities of pictures [N, 3, 128, 128] in [0, 1]."""

    def __init__(self, net: nn.Module):
        self.net = net.eval()

    @classmethod
    def load(cls, file: Path = WEIGHTS) -> Judge:
        net = network()
        net.load_state_dict({name: value.float() for name, value in load_file(file).items()})
        return cls(net)

    def save(self, file: Path = WEIGHTS) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole(file) as part:
            save_file({name: value.half().contiguous() for name, value in self.net.state_dict().items()}, part)

    @torch.no_grad()
    def logits(self, pictures: Tensor) -> Tensor:
        """[N, 10], in the order of ATTRIBUTES."""
        return torch.cat([self.net(part * 2 - 1) for part in pictures.split(64)])

    def probabilities(self, pictures: Tensor) -> Tensor:
        """[N, 10] in [0, 1]."""
        return self.logits(pictures).sigmoid()
