"""Every hyper-parameter of the portraits domain's training, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

PICTURE = 128  # side in pixels


@dataclass(frozen=True)
class Renders:
    """The training and held-out pictures."""

    train: int = 8192
    held_out: int = 512
    seed: int = 20_260


@dataclass(frozen=True)
class VAE:
    """TAESD architecture, trained on crops (it is fully convolutional)."""

    steps: int = 2600
    batch: int = 8
    crop: int = 64
    learning_rate: float = 1e-3
    warm_up: int = 100
    l1_weight: float = 0.05
    latent_noise: float = 0.05  # standard deviations; makes the decoder smooth for the diffusion model
    latent_penalty: float = 1e-4
    seed: int = 1


@dataclass(frozen=True)
class Text:
    """A small CLIP-style transformer over CLIP's own 49,408 tokens; its sizes are TEXT_CONFIG in host/."""

    steps: int = 1500
    batch: int = 128
    learning_rate: float = 3e-3
    seed: int = 2


@dataclass(frozen=True)
class Model:
    """ComfyUI's UNetModel at small width, trained to predict v on the VAE's latents."""

    channels: int = 64
    channel_mult: tuple[int, ...] = (1, 2)
    res_blocks: int = 1
    attention: tuple[int, ...] = (0, 1)  # transformer blocks at 16x16 and at 8x8
    heads: int = 4
    steps: int = 5000
    batch: int = 32
    learning_rate: float = 1e-3
    warm_up: int = 200
    ema: float = 0.999
    empty_captions: float = 0.1
    pictures: int = 6144  # of the training renders, half of them mirrored
    seed: int = 3


@dataclass(frozen=True)
class Judge:
    """The attribute classifier; it never sees a generated picture."""

    channels: tuple[int, ...] = (16, 32, 64, 96)
    steps: int = 600
    batch: int = 64
    learning_rate: float = 2e-3
    seed: int = 4


@dataclass(frozen=True)
class Config:
    renders: Renders = field(default_factory=Renders)
    vae: VAE = field(default_factory=VAE)
    text: Text = field(default_factory=Text)
    model: Model = field(default_factory=Model)
    judge: Judge = field(default_factory=Judge)


CONFIG = Config()
