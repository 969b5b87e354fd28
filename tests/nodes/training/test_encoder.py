"""Sliders in the text encoders: what a step computes, against a slow version; the files; and that nothing stays."""

from __future__ import annotations

from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.sd
import encoders
import folder_paths
import pytest
import tiny_models
import torch
from semantic_steering.nodes.host.lora.fitting import fit
from semantic_steering.nodes.host.training import encoder as encoder_module
from semantic_steering.nodes.host.training.encoder import NOTHING, Encoder, EncoderObjective, EncoderTraining
from semantic_steering.nodes.host.training.factors import Factors
from semantic_steering.nodes.host.training.frozen import differentiable
from semantic_steering.nodes.host.training.kept import Kept
from semantic_steering.nodes.host.training.layers import chosen, chosen_of_text
from semantic_steering.nodes.host.training.memory import planned_for_texts
from semantic_steering.nodes.host.training.words import texts
from training_runs import same

GUIDANCE, RANK, ALPHA = 1.4, 2, 1.0
WORDS = texts("a person", "an old person", "a young person with a hat", "man\nwoman")
FAMILIES = sorted(encoders.TARGETS)


def training(clip: Any, words: dict[str, str] = WORDS, layers: str = "no cross-attention") -> EncoderTraining:
    factors = Factors(chosen_of_text(clip, layers, RANK), RANK, ALPHA, 3)
    objective = EncoderObjective(clip, words, GUIDANCE)
    return EncoderTraining(clip.patcher, {}, objective, factors, 0.01, 4, 7, at_once=1, clip=clip)


def loaded(family: str = "SD 1.5") -> Any:
    with torch.inference_mode():
        return encoders.clip(family)


def parts(clip: Any, text: str, tensors: dict | None = None, strength: float = 0.0) -> dict[str, torch.Tensor]:
    """What CLIP Text Encode gives, behind the stock LoRA loader."""
    patched = comfy.sd.load_lora_for_models(None, clip, dict(tensors), 0, strength)[1] if tensors else clip
    with torch.no_grad():
        ((features, options),) = patched.encode_from_tokens_scheduled(patched.tokenize(text))
    pooled = options["pooled_output"]
    return {"cond": features.double()} | ({} if pooled is None else {"pooled_output": pooled.double()})


def by_hand(clip: Any, words: dict[str, str], tensors: dict) -> float:
    """Each text at both signs, token by token; the empty one where it is."""
    plus, minus = (
        [parts(clip, text) for name, text in words.items() if name.startswith(pole)] for pole in ("plus", "minus")
    )
    places = min(found["cond"].shape[1] for found in (*plus, *minus))  # Qwen's texts have the length that they have
    plus, minus = (
        {key: torch.stack([found[key][:, :places] if key == "cond" else found[key] for found in side]).mean(0)
         for key in side[0]}
        for side in (plus, minus)
    )  # fmt: skip
    errors = []
    for name, text in {**words, NOTHING: ""}.items():
        own = parts(clip, text)
        for sign in (1.0, -1.0):
            found = parts(clip, text, tensors, sign)
            for key, features in own.items():
                goal = features.clone()
                if name != NOTHING:
                    moved, both = features.clone(), (slice(None), slice(min(places, features.shape[1])))
                    along = plus[key] - minus[key]
                    moved[both] += sign * GUIDANCE / 2 * (along[both] if key == "cond" else along)
                    goal = moved * features.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True)
                unit = (plus[key] - minus[key]).square().mean()
                errors.append(float((found[key] - goal).square().mean() / unit))
    return sum(errors) / len(errors)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("steps", [0, 5])
def test_the_loss_is_equation_8_of_embeddings_at_both_signs(family, steps):
    """As the host's own loader and encoding have it."""
    clip = loaded(family)
    run = training(clip)
    run.run(steps)
    encoder = Encoder(clip, run.factors, run.objective.texts)
    every = torch.arange(len(run.objective.texts))
    with torch.inference_mode(False), torch.no_grad(), run.factors.applied(clip.cond_stage_model):
        found = float(run.objective.loss(encoder, every))
    assert found == pytest.approx(by_hand(clip, WORDS, run.factors.tensors() if steps else {}), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_learns_in_every_encoder(family):
    clip = loaded(family)
    run = training(clip)
    run.run(30)
    assert sum(run.losses[-6:]) < 0.7 * sum(run.losses[:6])
    moved = {name.split("_")[1] for name, value in run.factors.parameters.items() if "up" in name and value.any()}
    assert moved == {"SD 1.5": {"te"}, "SDXL": {"te1", "te2"}, "Flux": {"te1", "te2"}, "Z-Image": {"te"}}[family]


def test_a_steps_gradient_is_that_of_the_loss():
    """Along a random direction, by differences."""
    clip = loaded("SDXL")
    run = training(clip)
    run.run(4)
    encoder = Encoder(clip, run.factors, run.objective.texts)
    rows = torch.tensor([1])
    network = clip.cond_stage_model
    with torch.inference_mode(False), differentiable(network), run.factors.applied(network):
        with torch.autograd.graph.allow_mutation_on_saved_tensors():
            run.objective.loss(encoder, rows).backward()
        rng, values = torch.Generator().manual_seed(1), list(run.factors.parameters.values())
        way = [torch.randn(value.shape, generator=rng) for value in values]
        reached = [value.grad is not None for value in values]  # SDXL takes no notice of CLIP-L's last layer
        slope = sum(float((value.grad * step).sum()) for value, step in zip(values, way, strict=True)
                    if value.grad is not None)  # fmt: skip
        ends = []
        with torch.no_grad():
            for share in (1e-3, -2e-3):
                for value, step in zip(values, way, strict=True):
                    value += share * step
                ends.append(float(run.objective.loss(encoder, rows)))
    assert 0 < sum(reached) < len(reached)
    assert (ends[0] - ends[1]) / 2e-3 == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_reaches_its_weight_in_our_loader_and_the_stock_one(family, caplog):
    clip = loaded(family)
    run = training(clip)
    run.run(2)
    tensors = run.factors.tensors()
    count = len(run.factors.layers)
    assert fit(tiny_models.unet_model(), clip, tensors, "x").summary == f"text encoder {count} of {count} layers"
    patched = comfy.sd.load_lora_for_models(None, clip, dict(tensors), 0, 1.0)[1]
    assert len(patched.patcher.patches) == count
    assert "not loaded" not in caplog.text.lower()


def test_names_are_those_of_published_files():
    names = {family: {layer.name for layer in chosen_of_text(loaded(family), "all", RANK)} for family in FAMILIES}
    layer = "text_model_encoder_layers_0_self_attn_q_proj"
    assert f"lora_te_{layer}" in names["SD 1.5"]
    assert {f"lora_te1_{layer}", f"lora_te2_{layer}"} < names["SDXL"]
    assert "lora_te_layers_0_self_attn_q_proj" in names["Z-Image"]
    assert {f"lora_te1_{layer}", "lora_te2_encoder_block_0_layer_0_SelfAttention_q"} < names["Flux"]


def test_self_attention_leaves_the_feed_forward_out():
    for family in FAMILIES:
        some = {layer.path for layer in chosen_of_text(loaded(family), "self-attention", RANK)}
        every = {layer.path for layer in chosen_of_text(loaded(family), "all linear", RANK)}
        assert some < every
        assert not any("mlp" in path or "Dense" in path for path in some)
        assert all("mlp" in path or "Dense" in path for path in every - some)


@pytest.mark.parametrize("ends", ["well", "cancelled", "diverged"])
def test_the_encoders_are_as_they_were(ends):
    clip = loaded("SDXL")
    before = {name: value.clone() for name, value in clip.cond_stage_model.state_dict().items()}
    text = parts(clip, "an old person")
    run = training(clip)
    if ends == "well":
        run.run(2)
    elif ends == "cancelled":
        comfy.model_management.interrupt_current_processing()
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            run.run(2)
    else:
        run.factors.parameters[f"{run.factors.layers[0].name}.lora_up.weight"].data.fill_(float("nan"))
        with pytest.raises(ValueError, match="is no number"):
            run.run(2)
    after = clip.cond_stage_model.state_dict()
    assert all(torch.equal(value, after[name]) and not after[name].requires_grad for name, value in before.items())
    assert not any(module._forward_hooks for module in clip.cond_stage_model.modules())
    assert all(torch.equal(value, parts(clip, "an old person")[key]) for key, value in text.items())


@pytest.fixture
def one_thread():
    """With two threads the same steps of CLIP differ in the last bits now and then (docs/host-notes.md)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("family", FAMILIES)
def test_going_on_is_bit_equal_to_never_having_stopped(family, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    clip, about = loaded(family), {"target": "person"}
    first = training(clip)
    kept = Kept.of(first, "old", about)
    first.run(3)
    kept.write(first, "interrupted")
    second = training(clip)
    assert Kept.of(second, "old", about).resume(second) == 3
    second.run(7)
    whole = training(clip)
    whole.run(7)
    same(second, whole)


def test_another_encoder_or_text_is_another_training():
    clip = loaded()
    place = Kept.of(training(clip), "old", {}).digest
    assert place == Kept.of(training(loaded()), "old", {}).digest
    assert place != Kept.of(training(encoders.clip("SD 1.5", seed=1)), "old", {}).digest
    assert place != Kept.of(training(clip, texts("a cat", "an old person", "a young person", "")), "old", {}).digest


def test_nothing_stays_where_it_is_unless_it_is_the_target():
    clip = loaded()
    assert NOTHING in EncoderObjective(clip, WORDS, GUIDANCE).texts
    assert NOTHING not in EncoderObjective(clip, texts(" ", "old", "young", ""), GUIDANCE).texts


def test_a_layer_of_another_packs_class_is_refused():
    clip = loaded()

    class GGUFTensor(torch.nn.Parameter):
        pass

    layer = clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers[1].mlp.fc1
    layer.weight = GGUFTensor(layer.weight.data, requires_grad=False)
    with pytest.raises(
        ValueError, match=r"clip cannot be trained on: .*layers.1.mlp.fc1.weight.* packed as GGUFTensor"
    ):
        chosen_of_text(clip, "all", RANK)


@pytest.mark.parametrize(
    ("layers", "rank", "words"),
    [
        ("cross-attention", 2, "layers is 'cross-attention', of which this clip"),
        ("all", 17, "rank is 17, more than the 16"),
    ],
)
def test_layers_it_cannot_have_are_refused(layers, rank, words):
    with pytest.raises(ValueError, match=words):
        chosen_of_text(loaded(), layers, rank)


def test_too_little_memory_is_said_before_the_first_step(monkeypatch):
    clip = loaded()
    factors = Factors(chosen_of_text(clip, "all", RANK), RANK, ALPHA, 3)
    plan = planned_for_texts(clip, 77, factors)
    assert plan.at_once == 1 and 0 < plan.needed < plan.free
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: -1e9)
    with pytest.raises(ValueError, match=r"training these text encoders needs about .* lower rank"):
        planned_for_texts(clip, 77, factors)


class Fails:
    """A forward pass that runs out of memory in its first calls."""

    def __init__(self, clip: Any, times: int):
        self.module = clip.cond_stage_model.clip_l.transformer
        self.forward, self.left = self.module.forward, times

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left >= 0:
            raise torch.OutOfMemoryError("made up")
        return self.forward(*args, **kwargs)


def test_out_of_memory_other_models_make_room_and_then_it_is_said(monkeypatch):
    clip = loaded()
    run, asked = training(clip), []
    monkeypatch.setattr(comfy.model_management, "free_memory", lambda size, *_, **__: asked.append(size))
    monkeypatch.setattr(clip.cond_stage_model.clip_l.transformer, "forward", Fails(clip, 1))
    run.run(1)
    assert len(run.losses) == 1 and asked[-1] == float("inf")
    monkeypatch.undo()
    run = training(clip)
    monkeypatch.setattr(clip.cond_stage_model.clip_l.transformer, "forward", Fails(clip, 10))
    with pytest.raises(ValueError, match="too little memory for one text"):
        run.run(1)


def test_a_clip_whose_weights_change_along_the_run_is_refused():
    clip = loaded()
    clip.patcher.forced_hooks, clip.use_clip_schedule = comfy.hooks.HookGroup(), True
    with pytest.raises(ValueError, match="clip has hooks with a schedule"):
        EncoderObjective(clip, WORDS, GUIDANCE)
    clip.use_clip_schedule = False
    EncoderObjective(clip, WORDS, GUIDANCE)


@pytest.mark.parametrize("longer", ["target", "plus 0"])
def test_texts_of_different_numbers_of_chunks_are_refused(longer):
    """In SD 3 the words of CLIP would be paired with those of T5."""
    words = texts("a person", "an old person", "a young person", "")
    words[longer] += ", hat" * 80
    with pytest.raises(ValueError, match=f"the text of '{longer}' is longer than the others"):
        EncoderObjective(loaded(), words, GUIDANCE)


def test_poles_that_differ_by_rounding_alone_are_refused(monkeypatch):
    clip = loaded()
    own = encoder_module.features
    words = {"target": "a person", "plus 0": "an old person", "minus 0": "young"}

    def noisy(clip: Any, tokens: Any) -> dict[str, torch.Tensor]:
        found = own(clip, clip.tokenize("an old person"))
        return {key: value + 1e-6 * torch.randn(value.shape) for key, value in found.items()}

    monkeypatch.setattr(encoder_module, "features", noisy)
    with pytest.raises(ValueError, match="are the same to this model"):
        EncoderObjective(clip, words, GUIDANCE)


def test_what_the_poles_have_in_common_is_held_as_closely_as_the_rest_is_moved(monkeypatch):
    own = encoder_module.features
    alike = own(loaded(), loaded().tokenize("a person"))["pooled_output"]
    monkeypatch.setattr(
        encoder_module, "features", lambda clip, tokens: own(clip, tokens) | {"pooled_output": alike.clone()}
    )
    objective = EncoderObjective(loaded(), WORDS, GUIDANCE)
    size = {key: float(objective.plus[key].square().mean()) for key in objective.ones}
    assert objective.ones["pooled_output"] / size["pooled_output"] == pytest.approx(
        objective.ones["cond"] / size["cond"], rel=0.1
    )
    for targets in objective.targets.values():
        for found in targets.values():
            torch.testing.assert_close(found["pooled_output"], alike)


def test_the_places_of_a_text_are_the_last_axis_but_one():
    """HiDream's Llama gives all its layers, [B, layers, T, D]."""
    frozen = {f"{pole} {i}": {"conditioning_llama3": torch.full((1, 3, tokens, 2), value)}
              for i, tokens in enumerate((9, 7)) for pole, value in (("plus", 2.0), ("minus", 1.0))}  # fmt: skip
    plus, minus = encoder_module._poles(frozen)
    assert plus["conditioning_llama3"].shape == minus["conditioning_llama3"].shape == (1, 3, 7, 2)


def test_going_on_from_a_slider_of_the_other_kind_says_what_to_set():
    clip, model = loaded(), tiny_models.unet_model()
    in_clip = Factors(chosen_of_text(clip, "all", RANK), RANK, ALPHA, 3)
    in_model = Factors(chosen(model, "all", RANK), RANK, ALPHA, 3)
    with pytest.raises(ValueError, match="trained in the text encoder: set train to text encoder"):
        in_model.load(in_clip.tensors(), "slider")
    with pytest.raises(ValueError, match="trained in the diffusion model: set train to diffusion model"):
        in_clip.load(in_model.tensors(), "slider")
