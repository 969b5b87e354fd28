"""Ids, inputs and outputs are public: saved workflows depend on them. And nodes can be called directly."""

from __future__ import annotations

import asyncio
import inspect
import math
import sys

import pytest
import tiny_models
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from semantic_steering.nodes import NODES
from semantic_steering.nodes.diffedit import DiffEditMask, DiffEditSampler
from semantic_steering.nodes.host.conditioning.concept import ConceptInput
from semantic_steering.nodes.host.lora.clip import MissingClip
from semantic_steering.nodes.instruct_pix2pix import InstructPix2PixGuider
from semantic_steering.nodes.inversion import DDIMInvert
from semantic_steering.nodes.sega import SEGAConcept, SEGAConceptConditioning, SEGAGuidance, SEGASampler
from semantic_steering.nodes.sliders import NODES as SliderNodes
from semantic_steering.nodes.strips import LabelledStrip
from semantic_steering.nodes.text_direction import TextDirection
from semantic_steering.nodes.training import NODES as TrainingNodes
from slider_contract import SLIDERS
from training_contract import (
    FLOAT,
    INT,
    SEED,
    SOCKET,
    TRAINING,
    TRAINING_ADVANCED,
    TRAINING_OPTIONAL,
    TRAINING_OUTPUTS,
    TRAINING_WORDS,
)

CONCEPT = ["direction", "scale", "start_percent", "threshold", "end_percent", "concepts", "mask"]
SETTINGS = ["momentum_scale", "momentum_beta", "threshold_over", "base"]
REFRESH = ["refresh"]  # appended later
INPUTS = {
    "SEGAConcept": ["clip", "text", *CONCEPT, "prompt"],
    "SEGAConceptConditioning": ["conditioning", *CONCEPT, "prompt"],
    "SEGAGuidance": ["model", "concepts", *SETTINGS, *REFRESH],
    "SEGASampler": [
        "model", "seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent_image", "denoise",
        *SETTINGS, "concepts", *REFRESH,
    ],
    "SEGASweep": ["concepts", "latent_image", "scales"],
    "SEGAReport": ["latent"],
}  # fmt: skip
OUTPUTS = {
    "SEGAConcept": ["SEGA_CONCEPTS"],
    "SEGAConceptConditioning": ["SEGA_CONCEPTS"],
    "SEGAGuidance": ["MODEL"],
    "SEGASampler": ["LATENT", "MASK", "SEGA_VECTORS", "STRING"],
    "SEGASweep": ["SEGA_CONCEPTS", "LATENT", "STRING"],
    "SEGAReport": ["LATENT", "STRING"],
}
DEFAULTS = {
    "direction": "add", "scale": 5.0, "start_percent": 0.2, "threshold": 0.9, "end_percent": 1.0,
    "momentum_scale": 0.0, "momentum_beta": 0.4, "threshold_over": "channel", "base": "auto",
    "steps": 20, "cfg": 8.0, "denoise": 1.0, "seed": 0, "scales": "-10, -5, 0, 5, 10",
    "refresh": 1,
}  # fmt: skip
ADVANCED = {"threshold", "end_percent", *SETTINGS, *REFRESH}
# Every input of the editing nodes: (name, type, default, minimum, maximum); None where a socket has none.
EDITING = {
    "DDIMInvert": [
        ("model", "MODEL", *SOCKET), ("positive", "CONDITIONING", *SOCKET), ("latent_image", "LATENT", *SOCKET),
        ("steps", INT, 25, 1, 10000), ("scheduler", "COMBO", "normal", None, None), ("denoise", FLOAT, 0.8, 0.0, 1.0),
        ("cfg", FLOAT, 1.0, 0.0, 100.0), ("method", "COMBO", "fixed point", None, None),
        ("iterations", INT, 8, 1, 100), SEED, ("negative", "CONDITIONING", *SOCKET), ("sigmas", "SIGMAS", *SOCKET),
    ],
    "DiffEditMask": [
        ("model", "MODEL", *SOCKET), ("source", "CONDITIONING", *SOCKET), ("target", "CONDITIONING", *SOCKET),
        ("latent_image", "LATENT", *SOCKET), ("strength", FLOAT, 0.5, 0.0, 1.0), ("threshold", FLOAT, 0.5, 0.0, 1.0),
        ("grow", INT, 8, 0, 512), ("blur", INT, 8, 0, 512), ("maps", INT, 10, 1, 256),
        ("clamp", FLOAT, 3.0, 0.1, 100.0), SEED, ("image", "IMAGE", *SOCKET),
    ],
    "DiffEditSampler": [
        ("model", "MODEL", *SOCKET), ("positive", "CONDITIONING", *SOCKET), ("negative", "CONDITIONING", *SOCKET),
        ("inversion", "INVERSION", *SOCKET), ("mask", "MASK", *SOCKET), ("cfg", FLOAT, 7.5, 0.0, 100.0),
    ],
}  # fmt: skip
VECTORS = {
    "SEGASaveVectors": [
        ("vectors", "SEGA_VECTORS", *SOCKET), ("filename_prefix", "STRING", "vectors/sega", None, None),
    ],
    "SEGALoadVectors": [("file", "COMBO", None, None, None)],
    "SEGAApplyVectors": [
        ("model", "MODEL", *SOCKET), ("vectors", "SEGA_VECTORS", *SOCKET), ("scale", FLOAT, 1.0, -20.0, 20.0),
    ],
}  # fmt: skip
INSTRUCTING = {
    "InstructPix2PixGuider": [
        ("model", "MODEL", *SOCKET), ("positive", "CONDITIONING", *SOCKET), ("negative", "CONDITIONING", *SOCKET),
        ("vae", "VAE", *SOCKET), ("pixels", "IMAGE", *SOCKET), ("text_scale", FLOAT, 7.5, 0.0, 100.0),
        ("image_scale", FLOAT, 1.5, 0.0, 100.0), ("concepts", "SEGA_CONCEPTS", *SOCKET),
    ],
}  # fmt: skip
TABLES = EDITING | INSTRUCTING | SLIDERS | VECTORS | TRAINING
# By table: what its nodes' category ends in.
CATEGORIES = [
    (EDITING, "DiffEdit"),
    (INSTRUCTING, "InstructPix2Pix"),
    ({name: SLIDERS[name] for name in SLIDERS if name != "LabelledStrip"}, "sliders"),
    ({"LabelledStrip"}, "comparison"),
    (VECTORS, "SEGA (semantic guidance)"),
    (TRAINING, "training"),
]
# What a node must be found by: the method's name in its paper, and words of people who do not know it.
SEGA_WORDS = {"SEGA", "semantic guidance", "expression", "attribute", "add object", "remove object", "edit strength"}
SLIDER_WORDS = {"concept slider", "lora schedule", "attribute", "expression", "edit strength"}
WORDS = {name: SEGA_WORDS for name in (*INPUTS, *VECTORS)} | {
    "DDIMInvert": {"DDIM inversion", "SDEdit", "DiffEdit", "unsample"},
    "DiffEditMask": {"DiffEdit", "auto mask", "add object", "remove object"},
    "DiffEditSampler": {"DiffEdit", "replace object", "add object", "remove object"},
    "InstructPix2PixGuider": {"InstructPix2Pix", "edit instruction", "edit photo"},
    "LabelledStrip": {"compare", "grid", "caption"},
    "SliderLoRALoader": SLIDER_WORDS,
    "SliderSweep": SLIDER_WORDS | {"sweep"},
    "TextDirection": SLIDER_WORDS | {"prompt arithmetic"},
    **TRAINING_WORDS,
}
EDITING_OUTPUTS = {
    "DDIMInvert": [
        ("inversion", "INVERSION"),
        ("noise", "NOISE"),
        ("sigmas", "SIGMAS"),
        ("inverted_latent", "LATENT"),
        ("start_at_step", "INT"),
    ],
    "DiffEditMask": [("mask", "MASK"), ("heatmap", "MASK")],
    "DiffEditSampler": [("latent", "LATENT")],
    "InstructPix2PixGuider": [("guider", "GUIDER"), ("latent", "LATENT")],
    "LabelledStrip": [("image", "IMAGE")],
    "SEGASaveVectors": [],
    "SEGALoadVectors": [("vectors", "SEGA_VECTORS")],
    "SEGAApplyVectors": [("model", "MODEL")],
    "SliderLoRALoader": [("model", "MODEL"), ("clip", "CLIP")],
    "SliderSweep": [("model", "MODEL"), ("latent", "LATENT"), ("labels", "STRING")],
    "TextDirection": [("conditioning", "CONDITIONING")],
    **dict.fromkeys(TRAINING, TRAINING_OUTPUTS),
}
EDITING_ADVANCED = {"iterations", "seed", "maps", "clamp", "end_percent", "apply_to"}
EDITING_OPTIONAL = {"DDIMInvert": {"negative", "sigmas"}, "DiffEditMask": {"image"}, "DiffEditSampler": set()}
EDITING_OPTIONAL |= {"InstructPix2PixGuider": {"concepts"}, "LabelledStrip": {"before"}}
EDITING_OPTIONAL |= {"SliderLoRALoader": {"clip", "slider"}, "SliderSweep": {"slider"}, "TextDirection": set()}
EDITING_OPTIONAL |= {name: set() for name in VECTORS}
EDITING_OPTIONAL |= TRAINING_OPTIONAL
SCHEMAS = {schema.node_id: schema for schema in (node.define_schema() for node in NODES)}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_and_outputs_keep_their_names_and_order(name):
    schema = SCHEMAS[name]
    assert [entry.id for entry in schema.inputs][: len(INPUTS[name])] == INPUTS[name]
    assert [entry.get_io_type() for entry in schema.outputs][: len(OUTPUTS[name])] == OUTPUTS[name]
    assert schema.category.startswith("semantic steering/")


@pytest.mark.parametrize("name", INPUTS)
def test_widgets_keep_their_defaults_and_bounds(name):
    for entry in SCHEMAS[name].inputs:
        if entry.id in DEFAULTS:
            assert entry.default == DEFAULTS[entry.id], entry.id
        if entry.id in ADVANCED:
            assert entry.advanced, entry.id
        if entry.id in ("concepts", "mask"):  # nothing can be swept without a concept
            assert entry.optional is not (name == "SEGASweep"), entry.id
        if entry.id == "scale":
            assert (entry.min, entry.max) == (-20.0, 20.0)
        if entry.id in ("start_percent", "end_percent", "threshold", "momentum_scale", "denoise"):
            assert (entry.min, entry.max) == (0.0, 1.0)


@pytest.mark.parametrize("name", TABLES)
class TestEditingNodes:
    def test_inputs_keep_their_names_order_types_and_bounds(self, name):
        schema = SCHEMAS[name]
        found = [
            (entry.id, entry.get_io_type(), *(getattr(entry, key, None) for key in ("default", "min", "max")))
            for entry in schema.inputs
        ]
        assert found[: len(TABLES[name])] == TABLES[name]
        (category,) = (category for table, category in CATEGORIES if name in table)
        assert schema.category == f"semantic steering/{category}"

    def test_outputs_keep_their_names_order_and_types(self, name):
        found = [(entry.display_name, entry.get_io_type()) for entry in SCHEMAS[name].outputs]
        assert found[: len(EDITING_OUTPUTS[name])] == EDITING_OUTPUTS[name]

    def test_advanced_and_optional_inputs(self, name):
        inputs = SCHEMAS[name].inputs[: len(TABLES[name])]
        advanced = TRAINING_ADVANCED if name in TRAINING else EDITING_ADVANCED
        assert {entry.id for entry in inputs if getattr(entry, "advanced", None)} == advanced & {
            entry.id for entry in inputs
        }
        assert {entry.id for entry in inputs if entry.optional} == EDITING_OPTIONAL[name]
        # What is appended later must be optional, or saved graphs break.
        assert all(entry.optional for entry in SCHEMAS[name].inputs[len(TABLES[name]) :])

    def test_a_seed_stays_as_it_is(self, name):
        for entry in SCHEMAS[name].inputs:
            if entry.id == "seed":
                assert entry.control_after_generate == io.ControlAfterGenerate.fixed


def test_combos_of_the_inversion():
    import comfy.samplers

    combos = {entry.id: entry.options for entry in SCHEMAS["DDIMInvert"].inputs if entry.get_io_type() == "COMBO"}
    assert combos == {
        "scheduler": comfy.samplers.KSampler.SCHEDULERS, "method": ["fixed point", "ddim", "random"],
    }  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
class TestEveryNodeExplainsItself:
    def test_descriptions_and_tooltips_are_whole_sentences(self, name):
        schema = SCHEMAS[name]
        texts = {"the node": schema.description}
        texts |= {f"input {entry.id}": entry.tooltip for entry in schema.inputs}
        texts |= {f"output {entry.display_name}": entry.tooltip for entry in schema.outputs}
        for place, text in texts.items():
            assert text, f"{place} has no text"
            assert text == text.strip(), f"{place}: {text!r}"
            assert text.endswith("."), f"{place}: {text!r}"
        assert schema.display_name
        assert schema.display_name != schema.node_id

    def test_it_is_found_by_its_papers_name_and_by_other_words(self, name):
        aliases = SCHEMAS[name].search_aliases
        assert set(aliases) >= WORDS[name]
        assert len(aliases) == len({alias.lower() for alias in aliases})

    def test_numbers_have_a_range_and_a_step_that_fit_each_other(self, name):
        for entry in SCHEMAS[name].inputs:
            if entry.get_io_type() not in (FLOAT, INT):
                continue
            assert entry.min <= entry.default <= entry.max, entry.id
            if entry.get_io_type() == FLOAT:
                assert 0 < entry.step <= (entry.max - entry.min) / 10, entry.id
                assert not entry.round or entry.round <= entry.step, entry.id


def test_every_node_has_its_contract_here():
    assert set(SCHEMAS) == set(INPUTS) | set(TABLES)


@pytest.mark.parametrize(
    "node",
    [
        DDIMInvert,
        DiffEditMask,
        DiffEditSampler,
        InstructPix2PixGuider,
        LabelledStrip,
        TextDirection,
        *SliderNodes,
        *TrainingNodes,
    ],
)
def test_execute_takes_the_schemas_inputs_with_their_defaults(node):
    """Called directly: names, order and defaults of a call are those of the page."""
    parameters = list(inspect.signature(node.execute).parameters.values())
    rows = TABLES[node.define_schema().node_id]
    optional = EDITING_OPTIONAL[node.define_schema().node_id]
    assert {entry.name for entry in parameters} == {row[0] for row in rows}
    for entry, (name, _, default, *_) in zip(parameters, sorted(rows, key=lambda row: row[0] in optional), strict=True):
        assert entry.name == name
        expected = default if default is not None else None if name in optional else inspect.Parameter.empty
        assert entry.default == expected, name


def test_sega_sampler_has_the_hosts_ksampler_inputs_in_its_order():
    from nodes import KSampler

    assert list(KSampler.INPUT_TYPES()["required"]) == INPUTS["SEGASampler"][:10]


def test_the_pack_offers_each_node_once():
    pack = sys.modules["semantic_steering"]
    offered = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
    ids = [node.define_schema().node_id for node in offered]
    assert offered == NODES
    assert len(ids) == len(set(ids))
    assert set(ids) >= set(INPUTS)
    assert all(issubclass(node, io.ComfyNode) for node in offered)


class FakeClip:
    def __init__(self):
        self.texts = []

    def tokenize(self, text):
        self.texts.append(text)
        return text

    def encode_from_tokens_scheduled(self, tokens):
        return tiny_models.stub_cond(len(tokens))


class TestCalledDirectly:
    """Outside inference mode, without optional and hidden inputs."""

    def test_a_concept_of_a_text(self):
        clip = FakeClip()
        (concepts,) = SEGAConcept.execute(clip, "glasses").args
        (entry,) = concepts
        assert isinstance(entry, ConceptInput)
        assert (entry.name, entry.scale, entry.threshold) == ("glasses", 5.0, 0.9)
        assert (entry.window.start_percent, entry.window.end_percent) == (0.2, 1.0)
        assert clip.texts == ["glasses"]

    def test_removing_turns_the_sign_of_the_scale(self):
        (entry,) = SEGAConcept.execute(FakeClip(), "glasses", direction="remove", scale=3.0).args[0]
        (opposite,) = SEGAConceptConditioning.execute(tiny_models.stub_cond(1), direction="remove", scale=-3.0).args[0]
        assert (entry.scale, opposite.scale) == (-3.0, 3.0)

    def test_chaining_keeps_the_order_and_the_given_chain(self):
        (first,) = SEGAConcept.execute(FakeClip(), "glasses").args
        (both,) = SEGAConcept.execute(FakeClip(), "smile", concepts=first).args
        assert [entry.name for entry in both] == ["glasses", "smile"]
        assert len(first) == 1

    def test_guidance_then_the_hosts_ksampler_is_the_sega_sampler(self):
        from nodes import common_ksampler

        assert not torch.is_inference_mode_enabled()
        model, positive, negative = tiny_models.unet_model(), tiny_models.unet_cond(1), tiny_models.unet_cond(2)
        (concepts,) = SEGAConceptConditioning.execute(tiny_models.unet_cond(3)).args
        (patched,) = SEGAGuidance.execute(model, concepts).args
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        arguments = (3, 5, 4.0, "euler", "normal", positive, negative, latent)
        (separate,) = common_ksampler(patched, *arguments)
        together, activity, *_ = SEGASampler.execute(model, *arguments, concepts=concepts).args
        (plain,) = common_ksampler(model, *arguments)
        assert torch.equal(separate["samples"], together["samples"])
        assert tiny_models.relative(together["samples"], plain["samples"]) > 0.01
        assert 0 < activity.mean() < 0.5
        assert not together["samples"].requires_grad

    def test_inside_inference_mode_the_bits_are_the_same(self):
        model, concept = tiny_models.unet_model(), tiny_models.concept(tiny_models.unet_cond(3), 5.0, 0.9, 0.2)
        positive, negative, latent = (
            tiny_models.unet_cond(1),
            tiny_models.unet_cond(2),
            {"samples": torch.zeros(1, 4, 8, 8)},
        )
        arguments = (model, 3, 4, 4.0, "euler", "normal", positive, negative, latent)
        outside = SEGASampler.execute(*arguments, concepts=(concept,)).args[0]["samples"]
        with torch.inference_mode():
            inside = SEGASampler.execute(*arguments, concepts=(concept,)).args[0]["samples"]
        assert torch.equal(outside, inside)
        assert math.isfinite(float(outside.sum()))

    def test_invert_mask_and_edit_a_picture(self):
        assert not torch.is_inference_mode_enabled()
        model, empty, source, target = tiny_models.unet_model(), *(tiny_models.unet_cond(seed) for seed in (1, 2, 3))
        latent = {"samples": tiny_models.noise(1, 4, 8, 8)}
        inversion, noise, sigmas, inverted, start = DDIMInvert.execute(
            model, empty, latent, steps=4, method="ddim"
        ).args
        assert len(inversion.latents) == len(sigmas) == 4  # 3 of 4 steps
        assert start == 1
        assert noise.generate_noise(latent).shape == inverted["samples"].shape == (1, 4, 8, 8)
        mask, heatmap = DiffEditMask.execute(model, source, target, latent, maps=2, clamp=1.0).args
        assert mask.shape == heatmap.shape == (1, 64, 64)
        (edited,) = DiffEditSampler.execute(model, target, empty, inversion, mask).args
        assert not edited["samples"].requires_grad
        assert tiny_models.relative(edited["samples"], latent["samples"]) > 0.01

    @pytest.mark.parametrize("maps", [0, -1])
    def test_no_maps(self, maps):
        latent = {"samples": tiny_models.noise(1, 4, 8, 8)}
        with pytest.raises(ValueError, match=rf"maps is {maps}; at least 1 noise is needed"):
            DiffEditMask.execute(
                tiny_models.unet_model(), tiny_models.unet_cond(1), tiny_models.unet_cond(2), latent, maps=maps
            )


def test_the_hosts_cache_may_look_at_a_clip_that_nobody_connected():
    """When memory is short it asks every cached output for its patcher; an error there ends the host's worker."""
    assert not isinstance(getattr(MissingClip(), "patcher", None), ModelPatcher)
    with pytest.raises(ValueError, match="clip input is not connected"):
        MissingClip().tokenize("a portrait")
