"""Random sliders in every format on every family: equal to the host's own LoRA loader, in both ways of acting."""

from __future__ import annotations

import family_models
import lora_states as states
import pytest
import tiny_models
import torch
from slider_runs import by_hand, load, stock, sweep

FORMATS = {
    ("sd", "kohya"): ("lora_unet_", states.ldm, states.kohya),
    ("sd", "the authors'"): ("lora_unet_", states.authors, states.kohya),
    ("sd", "without alpha"): ("lora_unet_", states.ldm, lambda layers: states.kohya(layers, alpha=None)),
    ("sd", "PEFT"): ("diffusion_model.", lambda n: True, states.peft),
    ("sd", "diffusers"): ("unet.", lambda name: "attentions" in name, states.diffusers),
    ("sd", "conv with mid"): ("lora_unet_", lambda n: states.ldm(n) and "in_layers" in n, states.tucker),
    ("sd", "LoHa"): ("lora_unet_", lambda n: states.ldm(n) and "attn" in n, states.loha),
    ("sd", "LoKr"): ("lora_unet_", lambda n: states.ldm(n) and "attn" in n, states.lokr),
    ("sd", "LoKr of convolutions"): ("lora_unet_", lambda n: states.ldm(n) and "in_layers" in n, states.lokr),
    ("sd", "LoHa of convolutions"): ("lora_unet_", lambda n: states.ldm(n) and "in_layers" in n, states.loha),
    ("sd", "whole differences"): ("lora_unet_", lambda n: "attn1_to_out" in n or "in_layers_2" in n, states.full),
    ("sdxl", "the authors'"): ("lora_unet_", states.authors, states.kohya),
    ("sd3", "PEFT"): ("transformer.", lambda n: True, states.peft),  # fused qkv, and rows that change places
    ("sd3", "OneTrainer"): ("lora_transformer_", lambda n: True, states.kohya),
    ("sd3", "LoKr"): ("lycoris_", lambda n: True, states.lokr),
    ("flux", "PEFT"): ("transformer.", lambda n: True, states.peft),  # fused qkv and mlp
    ("flux", "kohya"): ("lora_unet_", lambda n: True, states.kohya),
    ("flux", "LoHa"): ("lycoris_", lambda n: True, states.loha),
    ("lumina", "PEFT"): ("diffusion_model.", lambda n: True, states.peft),
    ("lumina", "diffusers names"): ("transformer.", lambda n: True, states.peft),
    ("wan", "PEFT"): ("diffusion_model.", lambda n: True, states.peft),
    ("wan", "kohya"): ("lora_unet_", lambda n: True, states.kohya),
}
CLOSE = 1e-4
TITLES = {
    "sd": "SD UNet", "sdxl": "SDXL UNet", "sd3": "SD 3", "flux": "Flux", "lumina": "Lumina 2", "wan": "Wan (video)",
}  # fmt: skip
KEYS = [
    pytest.param(
        key, id=" ".join(key),
        marks=pytest.mark.compat(table="slider formats", row=key[1], feature=TITLES[key[0]]),
    )
    for key in FORMATS
]  # fmt: skip


@pytest.fixture(scope="module")
def made():
    cache: dict = {}

    def family(name):
        if name not in cache:
            cache[name] = family_models.FAMILIES[name]()
        return cache[name]

    return family


@pytest.mark.parametrize("key", KEYS)
def test_a_whole_run_is_the_hosts_own_loader_to_the_bit(key, made):
    family, start = made(key[0]), made(key[0]).noise(2)
    prefix, keep, write = FORMATS[key]
    state = write(states.targets(family.model, prefix, keep))
    expected = family.sample(stock(family.model, (state, 0.7)), start)
    assert torch.equal(family.sample(load(family.model, state, 0.7), start), expected)
    bare = family.sample(family.model, start)
    assert 0.01 < tiny_models.relative(expected, bare) < 3


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_a_window_and_a_sweep_are_the_run_written_out_by_hand(key, made):
    family = made(key[0])
    one = family.noise(1)
    prefix, keep, write = FORMATS[key]
    state = write(states.targets(family.model, prefix, keep))
    edge = family.model.get_model_object("model_sampling").percent_to_sigma(0.3)
    patched = stock(family.model, (state, 0.7))
    expected = by_hand(family, lambda sigma: patched if sigma <= edge else family.model, one)
    bare = by_hand(family, lambda sigma: family.model, one)
    switched = family.sample(load(family.model, state, 0.7, start=0.3), one)
    assert tiny_models.relative(switched, expected) < CLOSE
    hooked = family.sample(sweep(family.model, state, "0.7, 0", start=0.3), one.expand(2, *one.shape[1:]).clone())
    assert tiny_models.relative(hooked[:1], expected) < CLOSE
    assert tiny_models.relative(hooked[1:], bare) < CLOSE
    assert tiny_models.relative(expected, bare) > 10 * CLOSE
    assert torch.equal(family.sample(family.model, one), family.sample(family.model, one))


def test_the_authors_flux_files_which_the_host_cannot_map(made):
    family = made("flux")
    layers = states.targets(family.model, "lora_transformer_")
    known = states.kohya(layers)
    state = {key.replace("lora_transformer_", "lora_unet_"): value for key, value in known.items()}
    start = family.noise(1)
    expected = family.sample(stock(family.model, (known, 1.0)), start)
    assert torch.equal(family.sample(load(family.model, state), start), expected)
    assert torch.equal(family.sample(stock(family.model, (state, 1.0)), start), family.sample(family.model, start))


def test_half_precision_files(made):
    family, start = made("sd"), made("sd").noise(1)
    state = {key: value.half() for key, value in states.unet().items()}
    assert torch.equal(
        family.sample(load(family.model, state), start), family.sample(stock(family.model, (state, 1.0)), start)
    )
    hooked = family.sample(sweep(family.model, state, "1, 1"), start.repeat(2, 1, 1, 1))[:1]
    assert tiny_models.relative(hooked, family.sample(stock(family.model, (state, 1.0)), start)) < CLOSE
