"""What is in a file: every tensor is used as the host uses it, or said to be not used; broken files are refused."""

from __future__ import annotations

import family_models
import lora_states as states
import pytest
import tiny_models
import torch
from comfy.weight_adapter import adapter_maps
from comfy_extras.nodes_train import _setup_lora_adapters
from semantic_steering.nodes.host.lora import contents
from semantic_steering.nodes.host.lora.fitting import fit
from slider_runs import CLOSE, FAMILY, load, merged, run, same, stock, sweep

MODEL = FAMILY.model
LAYER = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q"
CONV = "diffusion_model.input_blocks.1.0.in_layers.2"
WEIGHTS = MODEL.model.state_dict()
WIDTH = len(WEIGHTS[f"{LAYER}.weight"])
UP, DOWN = states.random(WIDTH, 2, seed=1), states.random(2, WIDTH, seed=2)
PAIR = {f"{LAYER}.lora_B.weight": UP, f"{LAYER}.lora_A.weight": DOWN}


def report(state: dict[str, torch.Tensor], model=MODEL) -> str:
    return fit(model, None, state, "a slider").summary


class TestOthersSpelling:
    """PEFT's words for what the host calls otherwise: the host's bits for its own words."""

    @pytest.mark.parametrize("adapter", ["default", "default_0", "my slider"])
    def test_an_adapters_name(self, adapter):
        named = {f"{LAYER}.lora_B.{adapter}.weight": UP, f"{LAYER}.lora_A.{adapter}.weight": DOWN}
        assert same(merged(load(MODEL, named, 0.5)), merged(stock(MODEL, (PAIR, 0.5))))
        assert report(named) == "matched 1 of 1 layers"

    def test_a_second_adapter_is_said(self):
        second = {key.replace(".weight", ".other.weight"): 2 * value for key, value in PAIR.items()}
        assert same(merged(load(MODEL, PAIR | second)), merged(stock(MODEL, (PAIR, 1.0))))
        assert "2 tensors not used" in report(PAIR | second)

    @pytest.mark.parametrize("end", ["lora_magnitude_vector", "lora_magnitude_vector.weight",
                                     "lora_magnitude_vector.default.weight"])  # fmt: skip
    def test_the_magnitudes_of_a_dora(self, end):
        sizes = 1 + 0.1 * states.random(WIDTH, 1, seed=3)
        known = PAIR | {f"{LAYER}.dora_scale": sizes}
        theirs = PAIR | {f"{LAYER}.{end}": sizes[:, 0]}
        assert same(merged(load(MODEL, theirs, 0.5)), merged(stock(MODEL, (known, 0.5))))
        assert not same(merged(load(MODEL, theirs)), merged(stock(MODEL, (PAIR, 1.0))))
        assert report(theirs) == "matched 1 of 1 layers"

    def test_the_magnitudes_of_a_convolutions_dora(self):
        shape = WEIGHTS[f"{CONV}.weight"].shape
        pair = {f"{CONV}.lora_B.weight": states.random(shape[0], 2, 1, 1, seed=1),
                f"{CONV}.lora_A.weight": states.random(2, *shape[1:], seed=2)}  # fmt: skip
        sizes = 1 + 0.1 * states.random(shape[0], 1, 1, 1, seed=3)
        theirs = pair | {f"{CONV}.lora_magnitude_vector": sizes.reshape(1, -1, 1, 1)}
        assert same(merged(load(MODEL, theirs)), merged(stock(MODEL, (pair | {f"{CONV}.dora_scale": sizes}, 1.0))))

    def test_magnitudes_in_a_row_are_those_of_the_outputs(self):
        """Written out by hand: each row's new size; the host would multiply columns."""
        sizes = 1 + 0.1 * states.random(WIDTH, 1, seed=3)[:, 0]
        weight = WEIGHTS[f"{LAYER}.weight"]
        expected = (weight + UP @ DOWN) * (sizes / weight.norm(dim=1))[:, None]
        found = merged(load(MODEL, PAIR | {f"{LAYER}.dora_scale": sizes}))
        assert torch.allclose(found[f"{LAYER}.weight"], expected, atol=1e-6)

    @pytest.mark.parametrize("alpha", [None, 1.0])
    def test_the_bias_of_a_lora(self, alpha):
        """b + s·α/r·b_B, as PEFT adds it."""
        flux = family_models.flux().model
        weights = flux.model.state_dict()
        layer = "diffusion_model.double_blocks.0.img_attn.proj"
        up, down, bias = (states.random(*shape, seed=1) for shape in ((48, 2), (2, 48), (48, 1)))
        state = {f"{layer}.lora_B.weight": up, f"{layer}.lora_A.weight": down, f"{layer}.lora_B.bias": bias[:, 0]}
        if alpha is not None:
            state[f"{layer}.alpha"] = torch.tensor(alpha)
        found = merged(load(flux, state, 0.5))
        factor = 0.5 * (1.0 if alpha is None else alpha / 2)
        expected = weights[f"{layer}.bias"] + factor * state[f"{layer}.lora_B.bias"]
        assert torch.allclose(found[f"{layer}.bias"], expected, atol=1e-7)
        assert found.keys() == {f"{layer}.weight", f"{layer}.bias"}
        assert report(state, flux) == "matched 1 of 1 layers"

    @pytest.mark.parametrize("end", ["lora_B.bias", "diff_b"])
    def test_the_bias_of_a_part_of_a_fused_layer(self, end):
        family = family_models.flux()
        name = "transformer.transformer_blocks.0.attn.to_k"
        bias = states.random(48, 1, seed=3)[:, 0]
        state = states.peft({name: (48, 48)}) | {f"{name}.{end}": bias}
        key = "diffusion_model.double_blocks.0.img_attn.qkv.bias"
        expected = family.model.model.state_dict()[key].clone()
        expected[48:96] += 0.5 * bias
        assert torch.equal(merged(load(family.model, state, 0.5))[key], expected)
        assert report(state, family.model) == "matched 1 of 1 layers"
        start = family.noise(1)
        whole = family.sample(load(family.model, state, 0.5), start)
        swept = family.sample(sweep(family.model, state, "0.5, 0"), start.repeat(2, 1, 1, 1))
        assert tiny_models.relative(swept[:1], whole) < CLOSE
        assert tiny_models.relative(swept[1:], family.sample(family.model, start)) < CLOSE

    def test_a_bias_whose_layer_has_none_is_said(self):
        state = PAIR | {f"{LAYER}.lora_B.bias": UP[:, 0].clone()}
        assert same(merged(load(MODEL, state)), merged(stock(MODEL, (PAIR, 1.0))))
        assert report(state) == f"matched 1 of 1 layers, 1 tensor not used: {LAYER}.lora_B.bias"


def glora(name: str, rows: int, columns: int) -> dict[str, torch.Tensor]:
    shapes = {"a1": (columns, 2), "a2": (2, columns), "b1": (rows, 2), "b2": (2, columns)}
    return {f"{name}.{part}.weight": 0.5 * states.random(*shapes[part], seed=i) for i, part in enumerate(shapes)}


class TestReported:
    def test_nothing_where_all_is_used(self):
        layers = states.targets(MODEL, "lora_unet_", lambda name: states.ldm(name) and "time_embedding" not in name)
        assert report(states.kohya(layers)) == "matched 119 of 119 layers"

    def test_what_no_rule_knows(self):
        extra = {f"{LAYER}.{end}": torch.ones(1) for end in ("on_input", "weight", "lora_embedding_A", "scale")}
        assert report(PAIR | extra) == (
            f"matched 1 of 1 layers, 4 tensors not used: {LAYER}.on_input, {LAYER}.weight, {LAYER}.lora_embedding_A, …"
        )

    def test_an_alpha_without_a_layer(self):
        assert report(PAIR | {f"{CONV}.alpha": torch.tensor(1.0)}) == (
            f"matched 1 of 1 layers, 1 tensor not used: {CONV}.alpha"
        )

    def test_what_the_host_reads_and_leaves_out(self):
        state = states.oft({LAYER: (WIDTH, WIDTH)}) | {f"{LAYER}.rescale": torch.ones(WIDTH, 1)}
        assert report(state) == f"matched 1 of 1 layers, 1 tensor not used: {LAYER}.rescale"

    def test_a_layer_given_twice(self):
        """The host takes the name that comes later in its table."""
        other = "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q"
        state = PAIR | states.kohya({other: (WIDTH, WIDTH)})
        assert same(merged(load(MODEL, state)), merged(stock(MODEL, (state, 1.0))))
        assert report(state).startswith("matched 1 of 2 layers, ")
        assert "not used: " + (LAYER if other not in report(state) else other) in report(state)

    @pytest.mark.parametrize(
        ("state", "why"),
        [
            ({f"{CONV}.diff": torch.ones(WEIGHTS[f"{CONV}.weight"].shape[:2])}, "the model's layer 32x32x3x3"),
            ({f"{LAYER}.oft_blocks": torch.ones(4, 4, 4)}, f"turns 16 outputs, the model's layer has {WIDTH}"),
            ({f"{LAYER}.oft_blocks": torch.ones(2, WIDTH // 4, 4, 4)}, "BOFT without an alpha"),
            (glora(LAYER, WIDTH, 8), f"the model's layer {WIDTH}x{WIDTH}"),
            (PAIR | {f"{LAYER}.dora_scale": torch.ones(7, 1)}, "has magnitudes of the shape [7, 1]"),
            (PAIR | {f"{LAYER}.lora_A.weight": torch.ones(3, WIDTH)}, "that make no product"),
        ],
        ids=["difference", "OFT", "BOFT", "GLoRA", "DoRA", "ranks"],
    )
    def test_what_the_host_would_only_log(self, state, why, caplog):
        """It is not counted, and the model is that without it."""
        good = states.kohya({f"{LAYER[:-1]}k": (WIDTH, WIDTH)})
        assert same(merged(load(MODEL, good | state)), merged(stock(MODEL, (good, 1.0))))
        assert report(good | state).startswith("matched 1 of 2 layers, ")
        assert why in caplog.text

    def test_norms_and_set_weights(self):
        """As the host applies them."""
        norm = "diffusion_model.middle_block.1.norm"
        width = len(WEIGHTS[f"{norm}.weight"])
        state = PAIR | {f"{norm}.w_norm": torch.ones(width), f"{norm}.b_norm": torch.ones(width)}
        assert same(merged(load(MODEL, state, 0.5)), merged(stock(MODEL, (state, 0.5))))
        state |= {f"{CONV}.set_weight": torch.ones_like(WEIGHTS[f"{CONV}.weight"])}
        assert same(merged(load(MODEL, state, 0.5)), merged(stock(MODEL, (state, 0.5))))
        assert report(state) == "matched 3 of 3 layers"


class TestTheCoresTraining:
    """What TrainLoraNode hands out, on the socket `slider`."""

    @pytest.mark.parametrize("algorithm", sorted(adapter_maps))
    def test_its_layers_norms_and_biases(self, algorithm):
        state, _ = _setup_lora_adapters(FAMILY.model.clone(), {}, algorithm, torch.float32, 4)
        state = {
            key: value.detach() if key.endswith("alpha") else 0.01 * states.random(*value.shape, seed=i)
            for i, (key, value) in enumerate(state.items())
        }
        assert same(merged(load(MODEL, state, 0.7)), merged(stock(MODEL, (state, 0.7))))
        layers = {contents.END.sub("", key) for key in state}
        assert report(state) == f"matched {len(layers)} of {len(layers)} layers"


class TestKinds:
    def test_glora_at_constant_strength_and_in_a_window_but_not_in_a_sweep(self):
        state = glora(LAYER, WIDTH, WIDTH)
        assert same(merged(load(MODEL, state, 0.7)), merged(stock(MODEL, (state, 0.7))))
        assert report(state) == "matched 1 of 1 layers"
        with pytest.raises(ValueError, match=r"GLORA weights .*cannot act with different strengths within a batch"):
            run(sweep(MODEL, state, "0, 1"))

    def test_ia3_is_refused_by_name(self):
        with pytest.raises(ValueError, match=r"holds \(IA\)³ weights, such as .*, which ComfyUI has no rule for"):
            report({f"{LAYER}.weight": torch.ones(WIDTH), f"{LAYER}.on_input": torch.tensor(False)})


class TestBroken:
    @pytest.mark.parametrize("write", [states.kohya, states.peft, states.diffusers, states.loha, states.tucker])
    def test_a_part_of_a_product_alone(self, write):
        """Whichever it is, in the text-encoder half as well."""
        for name in ("lora_unet_input_blocks_1_1_proj_in", "lora_te_text_model_encoder_layers_0_mlp_fc1"):
            state = write({name: (8, 8, 1, 1)})
            for key in [key for key in state if not key.endswith(".alpha") and "lora_mid" not in key]:
                half = {other: value for other, value in state.items() if other != key}
                with pytest.raises(ValueError, match=r"has no counterpart .*Download it again") as refused:
                    report(half)
                assert any(repr(other) in str(refused.value) for other in half)
                assert repr(key) in str(refused.value)

    @pytest.mark.parametrize("left", ["lokr_w1", "lokr_w2"])
    def test_half_a_kronecker_product(self, left):
        with pytest.raises(ValueError, match=rf"'{LAYER}\.{left}' has no counterpart"):
            report({f"{LAYER}.{left}": torch.ones(2, 2)})

    def test_the_files_own_key_is_named(self):
        """Not the one that it was renamed to."""
        key = "double_blocks.0.processor.qkv_lora1.up.weight"
        with pytest.raises(ValueError, match=rf"'{key}' has no counterpart"):
            report({key: torch.ones(4, 2)})

    def test_a_rank_of_0(self):
        state = {f"{LAYER}.lora_up.weight": torch.ones(WIDTH, 0), f"{LAYER}.lora_down.weight": torch.ones(0, WIDTH)}
        with pytest.raises(ValueError, match=rf"'{LAYER}\.lora_up\.weight' is empty, of the shape \[{WIDTH}, 0\]"):
            report(state)

    def test_nan(self):
        with pytest.raises(ValueError, match=rf"'{LAYER}\.lora_A\.weight' holds NaN"):
            report(PAIR | {f"{LAYER}.lora_A.weight": torch.full((2, WIDTH), torch.nan)})


class TestAControlLoRAOfFlux:
    """It makes the first layer wider, changes norms and biases, and has no prefix."""

    def state(self) -> dict[str, torch.Tensor]:
        layers = {"img_in": (48, 128), "double_blocks.0.img_attn.qkv": (144, 48), "single_blocks.0.linear2": (48, 240)}
        found = states.peft(layers)
        for i, (name, shape) in enumerate(layers.items()):
            found[f"{name}.lora_B.bias"] = 0.1 * states.random(shape[0], 1, seed=70 + i)[:, 0]
        for name in ("single_blocks.0.norm.key_norm", "double_blocks.0.img_attn.norm.query_norm"):
            found[f"{name}.scale"] = 1 + 0.1 * states.random(24, 1, seed=80)[:, 0]
        return found

    def test_in_the_whole_run_it_is_the_hosts_loader_to_the_bit(self):
        family, state = family_models.flux(), self.state()
        start = family.noise(2)
        expected = family.sample(stock(family.model, (state, 0.7)), start)
        assert torch.equal(family.sample(load(family.model, state, 0.7), start), expected)
        assert report(state, family.model) == "matched 5 of 5 layers"

    def test_in_a_window_and_in_a_sweep_it_is_refused_whatever_is_loaded(self):
        family, state = family_models.flux(), self.state()
        for _ in range(2):
            for refused in (
                lambda: load(family.model, state, 0.7, start=0.2),
                lambda: load(family.model, state, 0.7, to="positive"),
                lambda: sweep(family.model, state, "0, 1", channels=16),
            ):
                with pytest.raises(ValueError, match=r"changes the size of .*img_in.*, 48x64 in .*, end_percent 1"):
                    refused()
            family.sample(load(family.model, state, 0.7), family.noise(1))  # its weights stay loaded after the run
