"""A parametric renderer of cartoon portraits.

Shapes are signed distances, painted back to front with anti-aliased edges, a whole batch at a time.
Coordinates: x to the right, y down, the picture is [-1, 1]²; (u, v) are the head's own coordinates.

Legend: N pictures, S side in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .attributes import ATTRIBUTES, INDEX, STYLES, consistent

# How often each attribute is drawn in a random portrait, in the order of ATTRIBUTES.
FREQUENCY = (0.5, 0.35, 0.5, 0.2, 0.35, 0.25, 0.35, 0.4, 0.35, 0.35)
STYLE_FREQUENCY = (0.7, 0.15, 0.15)

SKIN = ((0.98, 0.85, 0.73), (0.93, 0.75, 0.60), (0.80, 0.60, 0.44), (0.62, 0.43, 0.30), (0.46, 0.31, 0.22))
HAIR = ((0.13, 0.10, 0.09), (0.33, 0.20, 0.12), (0.90, 0.72, 0.32), (0.68, 0.29, 0.12))
GRAY = (0.80, 0.81, 0.83)
EYES = ((0.25, 0.16, 0.10), (0.20, 0.42, 0.66), (0.22, 0.48, 0.30))
FRAMES = ((0.08, 0.08, 0.10), (0.30, 0.08, 0.10), (0.08, 0.14, 0.34))
LIPS = (0.86, 0.08, 0.22)
SHADOW = (0.46, 0.28, 0.66)
BLUSH = (0.95, 0.38, 0.46)

# What varies beside the attributes: uniform numbers in [0, 1], named by position.
NUISANCE = (
    "x", "y", "size", "width", "skin", "hair", "eye", "frame", "background_hue", "background_light",
    "cloth_hue", "hat_hue", "gap", "mouth", "brow", "tie_hue",
)  # fmt: skip


@dataclass(frozen=True)
class Portraits:
    """A batch of portrait descriptions: attributes bool [N, 10], style [N], nuisance [N, 16]."""

    attributes: Tensor
    style: Tensor
    nuisance: Tensor

    def __len__(self) -> int:
        return len(self.attributes)

    def __getitem__(self, rows) -> Portraits:
        return Portraits(self.attributes[rows], self.style[rows], self.nuisance[rows])

    def with_attribute(self, name: str, value: bool) -> Portraits:
        """The same people with one attribute set (what a bald head excludes is switched off)."""
        attributes = self.attributes.clone()
        attributes[:, INDEX[name]] = value
        return replace(self, attributes=consistent(attributes))

    def with_style(self, name: str) -> Portraits:
        """The same people, all in one style."""
        return replace(self, style=torch.full_like(self.style, STYLES.index(name)))


def sample(n: int, generator: torch.Generator) -> Portraits:
    """n random portraits; attributes are independent but for what a bald head excludes."""
    attributes = torch.rand(n, len(ATTRIBUTES), generator=generator) < torch.tensor(FREQUENCY)
    style = torch.multinomial(torch.tensor(STYLE_FREQUENCY), n, replacement=True, generator=generator)
    nuisance = torch.rand(n, len(NUISANCE), generator=generator)
    return Portraits(consistent(attributes), style, nuisance)


def _palette(colours: tuple, t: Tensor, blend: bool = False) -> Tensor:
    """Colours [N, 3] picked (or blended between neighbours) by t in [0, 1)."""
    table = torch.tensor(colours)
    if not blend:
        return table[(t * len(table)).long().clamp(max=len(table) - 1)]
    position = t * (len(table) - 1)
    low = position.long().clamp(max=len(table) - 2)
    weight = (position - low)[:, None]
    return table[low] * (1 - weight) + table[low + 1] * weight


def _hue(t: Tensor, saturation: float, value: Tensor | float) -> Tensor:
    """HSV hue wheel as a raised cosine, [N, 3]."""
    phase = t[:, None] * 2 * math.pi - torch.tensor([0.0, 2 * math.pi / 3, 4 * math.pi / 3])
    wheel = 0.5 + 0.5 * torch.cos(phase)
    value = value[:, None] if isinstance(value, Tensor) else value
    return value * (1 - saturation + saturation * wheel)


class _Canvas:
    """Pictures [N, 3, S, S] painted through anti-aliased masks [N, S, S]."""

    def __init__(self, n: int, size: int):
        axis = (torch.arange(size) + 0.5) / size * 2 - 1
        self.y, self.x = torch.meshgrid(axis, axis, indexing="ij")
        self.softness = 2.4 / size  # half of an edge's width: about 1.2 pixels
        self.picture = torch.zeros(n, 3, size, size)

    def cover(self, distance: Tensor) -> Tensor:
        """Coverage in [0, 1] of a signed distance (negative inside)."""
        return (0.5 - distance / (2 * self.softness)).clamp(0, 1)

    def paint(self, mask: Tensor, colour: Tensor | tuple, alpha: Tensor | float = 1.0) -> None:
        colour = torch.as_tensor(colour, dtype=torch.float32)
        colour = colour.reshape(-1, 3, 1, 1) if colour.ndim <= 2 else colour
        weight = (mask * alpha)[:, None]
        self.picture = self.picture + weight * (colour - self.picture)


def _column(value: Tensor) -> Tensor:
    return value[:, None, None]


def _ellipse(u: Tensor, v: Tensor, cu, cv, ru, rv) -> Tensor:
    """Approximate signed distance to an ellipse (first-order: f / |∇f|)."""
    a, b = (u - cu) / ru, (v - cv) / rv
    f = a * a + b * b - 1
    gradient = 2 * torch.sqrt((a / ru) ** 2 + (b / rv) ** 2).clamp_min(1e-6)
    return f / gradient


def _box(u: Tensor, v: Tensor, cu, cv, ru, rv) -> Tensor:
    return torch.maximum((u - cu).abs() - ru, (v - cv).abs() - rv)


def _squircle(u: Tensor, v: Tensor, cu, cv, ru, rv, power: Tensor) -> Tensor:
    """Superellipse |a|^p + |b|^p = 1; p = 2 is an ellipse, larger is squarer."""
    a, b = ((u - cu) / ru).abs().clamp_min(1e-4), ((v - cv) / rv).abs().clamp_min(1e-4)
    norm = (a**power + b**power) ** (1 / power)
    return (norm - 1) * torch.as_tensor(ru).clamp_min(0.05)


def render(portraits: Portraits, size: int = 128) -> Tensor:
    """Pictures [N, 3, size, size] in [0, 1] of the described portraits."""
    n = len(portraits)
    has = {name: _column(portraits.attributes[:, i].float()) for i, name in enumerate(ATTRIBUTES)}
    raw = {name: portraits.nuisance[:, i] for i, name in enumerate(NUISANCE)}
    canvas = _Canvas(n, size)
    cover, paint = canvas.cover, canvas.paint

    background = _hue(raw["background_hue"], 0.35, 0.65 + 0.3 * raw["background_light"])
    shade = 1 - 0.10 * canvas.y
    paint(torch.ones(n, size, size), background[:, :, None, None] * shade)

    scale = _column(0.92 + 0.16 * raw["size"])
    u = (canvas.x - _column(0.12 * (raw["x"] - 0.5))) / scale
    v = (canvas.y + 0.04 - _column(0.12 * (raw["y"] - 0.5))) / scale
    male = has["male"]
    haired = 1 - has["bald"]
    # Under a hat the head's own hair is drawn straight and without bangs: nobody could see the difference.
    curls = has["curls"] * (1 - has["hat"])
    bangs = has["bangs"] * (1 - has["hat"])
    skin = _palette(SKIN, raw["skin"], blend=True)
    dark_skin = skin * torch.tensor([0.84, 0.76, 0.72])
    natural = _palette(HAIR, raw["hair"])
    gray = portraits.attributes[:, INDEX["gray_hair"]].float()[:, None]
    hair = natural * (1 - gray) + torch.tensor(GRAY) * gray
    face_u = _column(0.40 + 0.04 * raw["width"]) + 0.04 * male
    angle = torch.atan2(v + 0.05, u)
    scallop = curls * 0.10 * (torch.sin(7 * angle).abs() - 0.15)
    locks = 1 + curls[:, None] * 0.28 * (torch.sin(7 * angle).abs() - 0.6)[:, None]
    hair_paint = (hair[:, :, None, None] * locks).clamp(0, 1)

    # Long hair behind the shoulders (women), then the body.
    long_hair = torch.maximum(_ellipse(u, v, 0.0, 0.20, 0.60, 0.86), v - 0.80)
    paint(cover(long_hair - scallop) * (1 - male) * haired, hair_paint * 0.88)
    cloth = _hue(raw["cloth_hue"], 0.65, 0.75)
    shoulders = _squircle(u, v, 0.0, 1.30, 0.70 + 0.20 * male, 0.60 + 0.02 * male, 2.0 + male)
    neck = _box(u, v, 0.0, 0.62, 0.15 + 0.06 * male, 0.24)
    paint(cover(shoulders), cloth)
    paint(cover(_ellipse(u, v, 0.0, 0.74, 0.30, 0.15)) * (1 - male), dark_skin)
    paint(cover(neck), dark_skin)
    collar = torch.maximum((u.abs() * 1.2 + 0.0) - (1.02 - v).clamp_min(0), 0.72 - v)
    paint(cover(collar) * male, (0.96, 0.96, 0.96))
    tie = _hue(raw["tie_hue"], 0.8, 0.6)
    paint(cover(_box(u, v, 0.0, 1.0, 0.065, 0.24)) * male, tie)

    # Head.
    paint(cover(_ellipse(u.abs(), v, face_u, 0.04, 0.075, 0.11)), dark_skin)
    paint(cover(_ellipse(u.abs(), v, face_u + 0.03, 0.20, 0.05, 0.06)) * (1 - male), (0.95, 0.80, 0.25))
    face = _squircle(u, v, 0.0, 0.0, face_u, 0.55, 2.0 + 1.4 * male)
    face_cover = cover(face)
    paint(face_cover, skin)
    paint(cover(_ellipse(u, v, -0.10, -0.36, 0.14, 0.09)) * has["bald"], (1.0, 1.0, 1.0), 0.45)

    # Make-up under the features: eye shadow and blush; the lips follow below.
    gap = _column(0.165 + 0.03 * raw["gap"])
    eye_u = u.abs() - gap
    paint(cover(_ellipse(eye_u, v, 0.0, -0.06, 0.125, 0.095)) * has["makeup"], SHADOW, 0.85)
    paint(cover(_ellipse(u.abs(), v, 0.27, 0.20, 0.10, 0.075)) * has["makeup"], BLUSH, 0.60)

    # Eyes, brows, nose.
    paint(cover(_ellipse(eye_u, v, 0.0, -0.03, 0.085, 0.055)), (0.98, 0.98, 0.98))
    paint(cover(_ellipse(eye_u, v, 0.0, -0.03, 0.045, 0.05)), _palette(EYES, raw["eye"]))
    brow = natural * 0.7
    paint(cover(_box(eye_u, v, 0.0, -0.165 - _column(0.03 * raw["brow"]), 0.095, 0.018 + 0.020 * male)), brow)
    paint(cover(_ellipse(u, v, 0.0, 0.10, 0.045, 0.075)), dark_skin)

    # Beard: the lower face and a moustache, in the hair's natural colour.
    jaw = torch.maximum(face - 0.03, 0.19 + 0.10 * torch.cos(u * 7.0) - v)
    paint(cover(jaw) * has["beard"], natural * 0.85)

    # Mouth: a straight line, or a half moon with teeth.
    lips = dark_skin * torch.tensor([0.86, 0.62, 0.62])
    makeup = portraits.attributes[:, INDEX["makeup"]].float()[:, None]
    lips = lips * (1 - makeup) + torch.tensor(LIPS) * makeup
    wide = _column(0.02 * raw["mouth"])
    smile = has["smile"]
    straight = _ellipse(u, v, 0.0, 0.33, 0.12 + wide, 0.035 + 0.015 * has["makeup"])
    moon = torch.maximum(_ellipse(u, v, 0.0, 0.26, 0.20 + wide, 0.17), 0.26 - v)
    paint(cover(straight) * (1 - smile), lips)
    paint(cover(moon) * smile, lips)
    paint(cover(moon + 0.035) * smile, (1.0, 1.0, 1.0))

    # Hair on the head, above a hairline that bangs lower to the brows.
    hairline = (1 - bangs) * (-0.36 + 1.2 * u * u) + bangs * (-0.17 + 0.35 * u * u)
    hairline = torch.minimum(hairline, torch.tensor(-0.02))  # curls end above the ears
    cap = torch.maximum(_ellipse(u, v, 0.0, -0.06, face_u + 0.07, 0.60) - scallop, v - hairline)
    paint(cover(cap) * haired, hair_paint)

    # Glasses.
    frame = _palette(FRAMES, raw["frame"])
    lens = _ellipse(eye_u, v, 0.0, -0.03, 0.145, 0.125)
    bridge = _box(u, v, 0.0, -0.05, 0.05, 0.018)
    arms = _box(u.abs(), v, gap + 0.21, -0.06, 0.075, 0.018)
    paint(cover(lens) * has["glasses"], (0.85, 0.93, 1.0), 0.35)
    frames = torch.minimum(lens.abs() - 0.024, torch.minimum(bridge, arms))
    paint(cover(frames) * has["glasses"], frame)

    # Hat: a dome, a band and a brim.
    hat = _hue(raw["hat_hue"], 0.7, 0.7)
    dome = torch.maximum(_squircle(u, v, 0.0, -0.36, face_u + 0.10, 0.46, torch.tensor(2.6)), v + 0.30)
    paint(cover(dome) * has["hat"], hat)
    paint(cover(torch.maximum(dome, 0.42 + v).maximum(-0.48 - v)) * has["hat"], hat * 0.55)
    paint(cover(_ellipse(u, v, 0.0, -0.33, 0.68, 0.07)) * has["hat"], hat * 0.8)

    return _stylise(canvas.picture, canvas, portraits.style).clamp(0, 1)


def _stylise(picture: Tensor, canvas: _Canvas, style: Tensor) -> Tensor:
    """The style over the whole picture: a pencil sketch on paper, or a painting with broad strokes."""
    out = picture.clone()
    rows = style == STYLES.index("sketch")
    if rows.any():
        gray = (picture[rows] * torch.tensor([0.30, 0.59, 0.11]).reshape(1, 3, 1, 1)).sum(1)
        soft = torch.nn.functional.avg_pool2d(gray[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
        slope_x = torch.gradient(soft, dim=2)[0]
        slope_y = torch.gradient(soft, dim=1)[0]
        lines = (3.0 * torch.sqrt(slope_x**2 + slope_y**2)).clamp(max=0.45)
        tone = 0.62 + 0.38 * gray - lines
        out[rows] = tone[:, None] * torch.tensor([1.0, 0.99, 0.95]).reshape(1, 3, 1, 1)
    rows = style == STYLES.index("painting")
    if rows.any():
        mean = picture[rows].mean(1, keepdim=True)
        vivid = mean + 1.35 * (picture[rows] - mean)
        strokes = 1 + 0.13 * torch.sin(22 * (canvas.x + canvas.y) + 2 * torch.sin(5 * (canvas.x - canvas.y)))
        out[rows] = vivid * strokes * torch.tensor([1.04, 0.95, 0.78]).reshape(1, 3, 1, 1)
    return out


def region(portraits: Portraits, name: str, size: int = 128, tolerance: float = 1 / 255) -> Tensor:
    """Where attribute `name` shows: bool [N, size, size], the pixels that differ between the portrait
    rendered with it and rendered without it."""
    on, off = render(portraits.with_attribute(name, True), size), render(portraits.with_attribute(name, False), size)
    return (on - off).abs().amax(1) > tolerance
