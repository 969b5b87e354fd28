"""Trains Concept Sliders on the finished checkpoint: low-rank directions that turn one attribute up or down.

The text objective of Concept Sliders (Gandikota et al. 2023), ε*(c_t) = ε(c_t) + η·Σ_p (ε(c₊, p) − ε(c₋, p)) at x_t, in
a symmetric form and with the difference of an image pair beside that of the texts, all in v, because that is what this
model predicts (v = α·ε − σ·x0):

    v_s(x_t, c_t)  →  v(x_t, c_t) + s·(η·m·(v(x_t, c₊, p) − v(x_t, c₋, p)) − κ·σ·(z₊ − z₋))     s uniform in [−2, 2]

with v_s the model with the slider at strength s, and z₊, z₋ the latents of one portrait with and without the
attribute. The texts decide early in a run whether the attribute is there; later both agree with what they see and their
difference vanishes. The pictures' difference goes on to the end, so that the dial also has degrees. Departures from the
paper: both directions and every strength are trained, not +1 alone; x_t is a noised render instead of a half-finished
sample; the preserved context p is what else is true of that portrait, one a row; m keeps the texts' direction to where
the attribute is (or would be) on that render, which the renderer knows.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..config import CONFIG, Dial
from ..files import whole
from ..portraits.attributes import ATTRIBUTES, BALD_EXCLUDES, INDEX, STYLES, judgeable
from ..portraits.captions import ABSENT, PEOPLE, PRESENT, STYLE_WORDS
from ..portraits.renderer import Portraits, region, render, sample
from . import text, vae
from .model import alphas_cumprod
from .state import TrainingState, cosine_schedule

logger = logging.getLogger("semantic_steering.demo")
FOLDER = Path(__file__).resolve().parents[1] / "models" / "sliders"
# Attention but for the text's side of it, and the convolutions of the residual blocks: the authors' "c3lier" layers
# without those that act on the time embedding or change the resolution.
LAYERS = re.compile(r"\.attn1\.|\.attn2\.to_(q|out)|\.resnets\.\d\.conv[12]\.")


def adapted_layers(model: Any) -> dict[str, str]:
    """{diffusers' module path: the UNet's own} of the layers that a slider changes."""
    import comfy.utils

    names = comfy.utils.unet_to_diffusers(model.model_config.unet_config)
    have = set(model.diffusion_model.state_dict())
    return {
        theirs.removesuffix(".weight"): ours.removesuffix(".weight")
        for theirs, ours in names.items()
        if theirs.endswith(".weight") and ours in have and LAYERS.search(theirs)
    }


class Adapter(nn.Module):
    """up(down(x)) beside one linear or convolutional layer; zero at first."""

    def __init__(self, layer: Any, rank: int):
        super().__init__()
        if isinstance(layer, nn.Linear):
            self.lora_down: Any = nn.Linear(layer.in_features, rank, bias=False)
            self.lora_up: Any = nn.Linear(rank, layer.out_features, bias=False)
        else:
            shape: dict[str, Any] = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding")}
            self.lora_down = nn.Conv2d(layer.in_channels, rank, bias=False, **shape)
            self.lora_up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(self.lora_down.weight, a=1)
        nn.init.zeros_(self.lora_up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.lora_up(self.lora_down(x))


class Slider(nn.Module):
    """One adapter a layer, named as the authors' files name them."""

    def __init__(self, model: Any, rank: int):
        super().__init__()
        unet = model.diffusion_model
        self.layers = {
            f"lora_unet_{theirs.replace('.', '_')}": unet.get_submodule(ours)
            for theirs, ours in adapted_layers(model).items()
        }
        self.adapters = nn.ModuleDict({name: Adapter(layer, rank) for name, layer in self.layers.items()})

    @contextmanager
    def applied(self, strengths: Tensor) -> Iterator[None]:
        """Within the block the UNet carries the slider; one strength a batch entry."""

        def hook(adapter: nn.Module) -> Any:
            def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
                return output + strengths.reshape(-1, *[1] * (output.ndim - 1)) * adapter(inputs[0])

            return add

        handles = [layer.register_forward_hook(hook(self.adapters[name])) for name, layer in self.layers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def tensors(self) -> dict[str, Tensor]:
        """The authors' file format, in half precision."""
        found = {f"{name}.alpha": torch.tensor(float(CONFIG.sliders.rank)) for name in self.layers}
        found |= {name.removeprefix("adapters."): value for name, value in self.state_dict().items()}
        return {name: value.detach().half().contiguous() for name, value in found.items()}


def suited(portraits: Portraits, name: str) -> Tensor:
    """Rows of the portraits on which the attribute can be seen, with it and without it."""
    known = judgeable(portraits.attributes, portraits.style)[:, INDEX[name]]
    if name in BALD_EXCLUDES:
        known = known & ~portraits.attributes[:, INDEX["bald"]]
    return known.nonzero()[:, 0]


def cells(portraits: Portraits, name: str) -> Tensor:
    """[N, 1, 16, 16]: 1 where the attribute shows in a latent cell or within 4 pixels of it, else 0."""
    where = torch.cat([region(portraits[rows], name) for rows in torch.arange(len(portraits)).split(128)])
    return nn.functional.max_pool2d(where.float()[:, None], 16, 8, 4)


def prompts(portraits: Portraits, row: int, name: str, rng: random.Random) -> tuple[str, str]:
    """(c₊, c₋): what can be seen of a portrait, once with the attribute and once without."""
    has = dict(zip(ATTRIBUTES, portraits.attributes[row].tolist(), strict=True))
    seen = judgeable(portraits.attributes[row : row + 1], portraits.style[row : row + 1])[0]
    start = f"{STYLE_WORDS[STYLES[int(portraits.style[row])]][0]} a {PEOPLE[has['male']][0]}"
    others = [
        (PRESENT if has[other] else ABSENT)[other][0]
        for other in ATTRIBUTES
        if other not in ("male", name) and seen[INDEX[other]] and rng.random() < (0.9 if has[other] else 0.3)
    ]
    place = rng.randint(0, len(others))

    def written(words: str) -> str:
        said = [*others[:place], words, *others[place:]]
        joined = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
        return f"{start} with {joined}"

    return written(PRESENT[name][0]), written(ABSENT[name][0])


def train(folder: Path) -> None:
    """Train (or go on training) the sliders, and write each as a LoRA file beside the checkpoint."""
    from ..laboratory import Laboratory

    config = CONFIG.sliders
    lab = Laboratory()
    who = sample(config.portraits, torch.Generator().manual_seed(CONFIG.renders.seed + 2))
    for dial in config.dials:
        write(dial, train_one(folder, lab, dial, who[suited(who, dial.attribute)]))


@torch.no_grad()
def encode_pairs(folder: Path, name: str, autoencoder: Any, who: Portraits) -> Tensor:
    """Normalised latents [2, N, 4, 16, 16] of the portraits without and with the attribute."""
    file = folder / f"slider-pairs-{name}.pt"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        both = [
            torch.cat([
                vae.encode_raw(autoencoder, render(who[rows].with_attribute(name, there)))
                for rows in torch.arange(len(who)).split(16)
            ])
            for there in (False, True)
        ]  # fmt: skip
        with whole(file) as part:
            torch.save(torch.stack(both) / autoencoder.vae_scale + autoencoder.vae_shift, part)
    return torch.load(file, weights_only=True)


def train_one(folder: Path, lab: Any, dial: Dial, portraits: Portraits) -> Slider:
    """Train (or go on training) one slider on portraits on which its attribute can be seen."""
    config, name = CONFIG.sliders, dial.attribute
    unet = lab.model.model.diffusion_model.requires_grad_(False)
    transformer, tokens = lab.clip.cond_stage_model.clip_l.transformer.requires_grad_(False), text.Tokens()
    pairs = encode_pairs(folder, name, lab.vae.first_stage_model.float(), portraits)
    torch.manual_seed(config.seed)
    slider = Slider(lab.model.model, config.rank)
    optimiser = torch.optim.AdamW(slider.parameters(), lr=config.learning_rate, weight_decay=0.0)
    state = TrainingState(folder / f"slider-{name}.pt", slider=slider, optimiser=optimiser)
    start = state.load()
    places, alpha_bar = cells(portraits, name), alphas_cumprod()
    running = None
    for step in range(start, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * cosine_schedule(step, config.steps, config.warm_up)
        rng = random.Random(20_000_000 + step)
        rows = torch.randint(len(portraits), (config.batch,))
        written = [prompts(portraits, int(row), name, rng) for row in rows]
        neutral = ["" if rng.random() < config.empty_captions else rng.choice(pair) for pair in written]
        texts = [*(pair[0] for pair in written), *(pair[1] for pair in written), *neutral]
        context = text.encode(transformer, tokens(texts))
        # Stratified timesteps: one in each of `batch` equal bins.
        t = ((torch.arange(config.batch) + torch.rand(config.batch)) / config.batch * len(alpha_bar)).long()
        alpha, sigma = alpha_bar[t].sqrt().reshape(-1, 1, 1, 1), (1 - alpha_bar[t]).sqrt().reshape(-1, 1, 1, 1)
        latents = pairs[torch.randint(2, (config.batch,)), rows]
        noisy = alpha * latents + sigma * torch.randn_like(latents)
        strengths = (torch.rand(config.batch) * 2 - 1) * config.strongest
        with torch.no_grad():
            plus, minus, plain = unet(noisy.repeat(3, 1, 1, 1), t.float().repeat(3), context=context).chunk(3)
            direction = dial.texts * (plus - minus) * places[rows]
            direction = direction - dial.pictures * sigma * (pairs[1, rows] - pairs[0, rows])
            target = plain + strengths.reshape(-1, 1, 1, 1) * direction
        with slider.applied(strengths):
            predicted = unet(noisy, t.float(), context=context[-config.batch :])
        # As a share of what the slider has to do: 1 where it does nothing.
        loss = (predicted - target).square().mean() / (target - plain).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
        state.save_sometimes(step + 1)
        if step % 50 == 0 or step + 1 == config.steps:
            logger.info("slider %s step %d: %.3f of the direction is missing", name, step, running)
    state.save(config.steps)
    return slider


def write(dial: Dial, slider: Slider) -> None:
    """Write a slider as ComfyUI's and the authors' loaders read it."""
    name = dial.attribute
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{name}.safetensors"
    about = {
        "format": "pt", "version": "1", "kind": "concept slider", "domain": "portraits", "attribute": name,
        "positive": PRESENT[name][0], "negative": ABSENT[name][0], "base_model": "portraits.safetensors",
        "rank": str(CONFIG.sliders.rank), "guidance": str(dial.texts), "pictures": str(dial.pictures),
        "command": "python dev.py train-demo --part sliders",
    }  # fmt: skip
    with whole(file) as part:
        save_file(slider.tensors(), part, metadata=about)
    logger.info("wrote %s, %.0f KB", file.name, file.stat().st_size / 1e3)
