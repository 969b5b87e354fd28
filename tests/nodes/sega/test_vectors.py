"""Concept vectors: recorded by SEGA Sampler, written, read, and added to other runs."""

from __future__ import annotations

import json
import logging

import comfy.cli_args
import folder_paths
import pytest
import safetensors.torch
import tiny_models
import torch
from comfy.model_base import ModelType
from comfy_extras.nodes_custom_sampler import DualCFGGuider
from semantic_steering.nodes.host.sega.vector_files import names
from semantic_steering.nodes.host.sega.vector_patch import with_vectors
from semantic_steering.nodes.host.sega.vectors import ConceptVectors
from semantic_steering.nodes.inversion import DDIMInvert
from semantic_steering.nodes.sega import SEGASampler
from semantic_steering.nodes.vectors import SEGAApplyVectors, SEGALoadVectors, SEGASaveVectors

POSITIVE, NEGATIVE, OTHER = (tiny_models.unet_cond(seed) for seed in (1, 2, 3))
STEPS, SEED, CFG = 6, 11, 3.0
TYPES = [ModelType.EPS, ModelType.V_PREDICTION, ModelType.FLOW, ModelType.EDM]


@pytest.fixture(scope="module")
def model():
    return tiny_models.unet_model()


def entries():
    found = (tiny_models.unet_cond(11), 2.0, 0.8, 0.2, 1.0), (tiny_models.unet_cond(12), -1.5, 0.5, 0.0, 0.7)
    return tuple(tiny_models.concept(cond, *rest) for cond, *rest in found)


def sampled(model, concepts=None, *, positive=POSITIVE, sampler="euler", scheduler="normal", size=(8, 8), batch=1,
            steps=STEPS, **options):  # fmt: skip
    latent = {"samples": torch.zeros(batch, 4, *size)}
    return SEGASampler.execute(
        model, SEED, steps, CFG, sampler, scheduler, positive, NEGATIVE, latent, concepts=concepts, **options
    ).args[:3]


def recorded(model, *concepts, **options):
    latent, _, vectors = sampled(model, concepts or entries(), **options)
    return latent["samples"], vectors


def apply(model, vectors, scale=1.0):
    return SEGAApplyVectors.execute(model, vectors, scale).args[0]


class TestApply:
    @pytest.mark.slow
    @pytest.mark.parametrize("model_type", TYPES, ids=lambda t: t.name)
    @pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "uni_pc", "dpm_2", "dpmpp_sde", "seeds_2"])
    def test_the_recorded_run_comes_back(self, model_type, sampler):
        model = tiny_models.unet_model(model_type)
        edited, vectors = recorded(model, sampler=sampler, scheduler="sgm_uniform", momentum_scale=0.3)
        plain = sampled(model, sampler=sampler, scheduler="sgm_uniform")[0]["samples"]
        found = sampled(apply(model, vectors), sampler=sampler, scheduler="sgm_uniform")[0]["samples"]
        assert tiny_models.relative(edited, plain) > 0.01
        assert tiny_models.relative(found, edited) < 1e-4

    def test_one_concept_comes_back_to_the_bit(self, model):
        edited, vectors = recorded(model, entries()[0])
        assert torch.equal(sampled(apply(model, vectors))[0]["samples"], edited)

    def test_no_concept_is_evaluated(self, model):
        _, vectors = recorded(model)
        calls = tiny_models.recorded(model)
        sampled(apply(calls.model, vectors))
        assert calls.batches == [2] * STEPS

    @pytest.mark.parametrize("scale", [-1.0, 0.5, 2.0])
    def test_it_is_linear_in_scale(self, scale):
        """With a model whose estimates do not depend on x."""
        model, start = tiny_models.stub_model(), tiny_models.noise(1, *tiny_models.SIZE)
        target = tiny_models.concept(tiny_models.stub_cond(3), 2.0, 0.8, 0.2)
        positive, negative = tiny_models.stub_cond(1), tiny_models.stub_cond(2)
        latent = {"samples": torch.zeros(1, *tiny_models.SIZE)}
        vectors = SEGASampler.execute(
            model, SEED, STEPS, CFG, "euler", "normal", positive, negative, latent, concepts=(target,)
        ).args[2]
        plain = tiny_models.sample_cfg(model, positive, negative, start=start)
        whole, part = (
            tiny_models.sample_cfg(apply(model, vectors, s), positive, negative, start=start) - plain
            for s in (1.0, scale)
        )
        assert whole.abs().max() > 0.1
        torch.testing.assert_close(part, scale * whole, rtol=1e-3, atol=1e-3)

    def test_another_schedule_is_interpolated(self):
        """γ of a whole-run concept of the stub is the same at every σ, so any schedule adds the same."""
        model = tiny_models.stub_model()
        positive, negative = tiny_models.stub_cond(1), tiny_models.stub_cond(2)
        target = (tiny_models.concept(tiny_models.stub_cond(3), 2.0, 0.8),)
        latent = {"samples": torch.zeros(1, *tiny_models.SIZE)}

        def run(model, steps, scheduler, concepts=None):
            return SEGASampler.execute(
                model, SEED, steps, CFG, "euler", scheduler, positive, negative, latent, momentum_scale=0.0,
                concepts=concepts,
            ).args[:3]  # fmt: skip

        vectors = run(model, 7, "normal", target)[2]
        found = run(apply(model, vectors), 12, "karras")[0]["samples"]
        expected = run(model, 12, "karras", target)[0]["samples"]
        assert tiny_models.relative(found, run(model, 12, "karras")[0]["samples"]) > 0.01
        assert tiny_models.relative(found, expected) < 1e-4

    def test_vectors_of_one_picture_serve_a_batch(self, model):
        _, vectors = recorded(model)
        batch = sampled(apply(model, vectors), batch=3)[0]["samples"]
        plain = sampled(model, batch=3)[0]["samples"]
        assert all(tiny_models.relative(batch[i], plain[i]) > 0.01 for i in range(3))

    def test_another_size_is_resized_with_a_warning(self, model, caplog):
        _, vectors = recorded(model)
        with caplog.at_level(logging.WARNING, "semantic_steering"):
            found = sampled(apply(model, vectors), size=(12, 8))[0]["samples"]
        assert "resized to [12, 8]" in caplog.text
        assert tiny_models.relative(found, sampled(model, size=(12, 8))[0]["samples"]) > 0.01

    def test_two_of_them_add_up(self, model):
        one, two = (recorded(model, entry)[1] for entry in entries())
        both = ConceptVectors(one.gamma + two.gamma, one.sigmas, one.model, one.concepts + two.concepts, SEED)
        found = sampled(apply(apply(model, one), two))[0]["samples"]
        assert tiny_models.relative(found, sampled(apply(model, both))[0]["samples"]) < 1e-5

    def test_a_guider_that_makes_its_own_calls(self, model):
        _, vectors = recorded(model)
        sigmas, start = tiny_models.schedule(model), tiny_models.noise(1, 4, 8, 8)
        plain, edited = (
            tiny_models.sample(
                DualCFGGuider.execute(m, POSITIVE, OTHER, NEGATIVE, 4.0, 2.0, "regular").args[0], start, sigmas
            )
            for m in (model, apply(model, vectors))
        )
        assert tiny_models.relative(edited, plain) > 0.01

    def test_the_same_bits_again_and_the_model_as_it_was(self, model):
        _, vectors = recorded(model)
        steered = apply(model, vectors)
        before = tiny_models.state_of(steered)
        once, again = (sampled(steered)[0]["samples"] for _ in range(2))
        assert torch.equal(once, again)
        assert tiny_models.state_of(steered) == before


class TestNeutral:
    def test_scale_0_and_empty_vectors_are_not_using_the_node(self, model):
        plain = sampled(model)[0]["samples"]
        _, vectors = recorded(model)
        nothing = sampled(model)[2]
        silent = recorded(model, tiny_models.concept(OTHER, 0.0))[1]
        for steered in (apply(model, vectors, 0.0), apply(model, nothing), apply(model, silent)):
            assert not steered.wrappers
            assert torch.equal(sampled(steered)[0]["samples"], plain)


class TestRefused:
    @pytest.mark.parametrize("scale", [float("nan"), float("inf")])
    def test_a_scale_that_is_no_number(self, model, scale):
        with pytest.raises(ValueError, match=r"scale is (nan|inf)"):
            apply(model, recorded(model)[1], scale)

    def test_another_kind_of_model(self, model):
        _, vectors = recorded(model)
        calls = tiny_models.recorded(tiny_models.unet_model(ModelType.FLOW))
        with pytest.raises(ValueError, match=r"vectors were made by another model.*EPS.*Record them again"):
            sampled(apply(calls.model, vectors))
        assert calls.seen == []

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ((1, 16, 8, 8), "another model family"),
            ((1, 4, 3, 8, 8), "another model family"),
            ((2, 4, 8, 8), "batch of 2"),
        ],
    )
    def test_another_shape(self, model, shape, message):
        _, known = recorded(model)
        vectors = ConceptVectors(torch.ones(len(known.sigmas), *shape), known.sigmas, known.model, (), 0)
        calls = tiny_models.recorded(model)
        with pytest.raises(ValueError, match=message):
            sampled(with_vectors(calls.model, vectors, 1.0), batch=3)
        assert calls.seen == []

    def test_an_inversion_of_a_model_that_carries_them(self, model):
        steered = apply(model, recorded(model)[1])
        with pytest.raises(ValueError, match="SEGA Apply Vectors"):
            DDIMInvert.execute(steered, POSITIVE, {"samples": torch.zeros(1, 4, 8, 8)})


@pytest.fixture
def folders(tmp_path):
    """Empty input and output folders."""
    old = folder_paths.get_input_directory(), folder_paths.get_output_directory()
    for name, setter in (("in", folder_paths.set_input_directory), ("out", folder_paths.set_output_directory)):
        (tmp_path / name).mkdir()
        setter(str(tmp_path / name))
    yield tmp_path
    folder_paths.set_input_directory(old[0])
    folder_paths.set_output_directory(old[1])


class TestFiles:
    def test_what_is_written_is_read(self, model, folders):
        _, vectors = recorded(model)
        SEGASaveVectors.execute(vectors, "edits/glasses")
        SEGASaveVectors.execute(vectors, "edits/glasses")
        assert names() == [f"edits/glasses_0000{i}_.sega.safetensors [output]" for i in (1, 2)]
        (found,) = SEGALoadVectors.execute(names()[1]).args
        assert torch.equal(found.gamma, vectors.gamma)
        assert (found.sigmas, found.model, found.seed) == (vectors.sigmas, vectors.model, SEED)
        assert [(c["name"], c["scale"], c["start_percent"]) for c in found.concepts] == [
            ("test", 2.0, 0.2), ("test", -1.5, 0.0)
        ]  # fmt: skip
        assert torch.equal(sampled(apply(model, found))[0]["samples"], sampled(apply(model, vectors))[0]["samples"])

    def test_files_of_the_input_folder_are_listed_too(self, model, folders):
        SEGASaveVectors.execute(recorded(model)[1], "a")
        (folders / "out" / "a_00001_.sega.safetensors").rename(folders / "in" / "b.sega.safetensors")
        (folders / "in" / "other.safetensors").write_bytes(b"")
        assert names() == ["b.sega.safetensors"]
        assert SEGALoadVectors.execute("b.sega.safetensors").args[0].seed == SEED

    def test_the_header_tells_what_is_inside(self, model, folders):
        SEGASaveVectors.execute(recorded(model)[1], "a")
        with safetensors.safe_open(folders / "out" / "a_00001_.sega.safetensors", "pt") as file:
            header = file.metadata()
        assert header["version"] == "1"
        assert json.loads(header["latent_shape"]) == [1, 4, 8, 8]
        assert len(json.loads(header["sigmas"])) == STEPS
        assert json.loads(header["model"])["latent_format"] == "LatentFormat"
        assert header["seed"] == str(SEED)

    def test_the_workflow_is_kept_only_where_the_host_keeps_it(self, model, folders, monkeypatch):
        from semantic_steering.nodes.host.sega.vector_files import save

        _, vectors = recorded(model)
        save(vectors, "with", {"workflow": {"nodes": []}})
        monkeypatch.setattr(comfy.cli_args.args, "disable_metadata", True)
        save(vectors, "without", {"workflow": {"nodes": []}})
        for name, kept in (("with", True), ("without", False)):
            with safetensors.safe_open(folders / "out" / f"{name}_00001_.sega.safetensors", "pt") as file:
                assert ("workflow" in file.metadata()) is kept

    def test_a_changed_file_is_read_again(self, model, folders):
        SEGASaveVectors.execute(recorded(model)[1], "a")
        first = SEGALoadVectors.fingerprint_inputs(names()[0])
        assert first == SEGALoadVectors.fingerprint_inputs(names()[0])
        SEGASaveVectors.execute(recorded(model, steps=3)[1], "b")
        (folders / "out" / "b_00001_.sega.safetensors").replace(folders / "out" / "a_00001_.sega.safetensors")
        assert SEGALoadVectors.fingerprint_inputs(names()[0]) != first

    def test_a_prefix_outside_the_output_folder_is_refused(self, model, folders):
        for prefix in ("../elsewhere/a", "/etc/a"):
            with pytest.raises(ValueError, match=r"^filename_prefix .* leads outside the output folder"):
                SEGASaveVectors.execute(recorded(model)[1], prefix)

    @pytest.mark.parametrize(
        ("prefix", "words"),
        [("a\0b", "cannot be printed"), ("a\nb", "cannot be printed"), ("x" * 201, "a name of 201 bytes"),
         ("folder/" + "é" * 101, "a name of 202 bytes")],
    )  # fmt: skip
    def test_a_name_that_no_file_has_is_refused(self, model, folders, prefix, words):
        with pytest.raises(ValueError, match=rf"^filename_prefix .*{words}"):
            SEGASaveVectors.execute(recorded(model)[1], prefix)
        SEGASaveVectors.execute(recorded(model)[1], "x" * 200)

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            ({"version": "99"}, "is of version 99, this pack reads version 1"),
            ({"format": "another"}, "does not hold concept vectors"),
            ({"sigmas": "[1.0, 2.0]"}, "6 rows for 2 noise levels"),
            ({"sigmas": "[1, 2, 3, 4, 5, 6]"}, "not finite, falling numbers"),
            ({"sigmas": "[Infinity, 5, 4, 3, 2, 1]"}, "not finite, falling numbers"),
            ({"sigmas": "[" + "9" * 400 + ", 5, 4, 3, 2, 1]"}, "its header is damaged"),
            ({"sigmas": "none"}, "its header is damaged"),
            ({"sigmas": "[" * 100_000}, "its header is damaged"),
            ({"model": "{}"}, "its header is damaged"),
            ({"concepts": "[1]"}, "say of their concepts"),
            ({"latent_shape": "[1, 4, 9, 9]"}, "its header says"),
            ({"latent_shape": "[]"}, "its header says"),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_a_damaged_header(self, model, folders, damage, message):
        SEGASaveVectors.execute(recorded(model)[1], "a")
        path = folders / "out" / "a_00001_.sega.safetensors"
        with safetensors.safe_open(path, "pt") as file:
            header, gamma = file.metadata(), file.get_tensor("gamma").clone()
        safetensors.torch.save_file({"gamma": gamma}, path, header | damage)
        with pytest.raises(ValueError, match=message):
            SEGALoadVectors.execute(names()[0])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda gamma: gamma[0, 0, 0, 0, 0].clone(), r"holds \[\], its header says"),
            (lambda gamma: torch.zeros_like(gamma, dtype=torch.int32), "int32, not floating-point"),
            (lambda gamma: torch.full_like(gamma, 1e300, dtype=torch.float64), "NaN or infinite"),
            (lambda gamma: torch.full_like(gamma, 1e20), r"up to 1e\+20; those of an edit are below 10000"),
            (lambda gamma: torch.full_like(gamma, -1.1e4), r"up to 1.1e\+04"),
        ],
        ids=["a single number", "whole numbers", "double precision out of range", "huge", "huge below zero"],
    )
    def test_values_that_no_edit_has(self, model, folders, change, message):
        SEGASaveVectors.execute(recorded(model)[1], "a")
        path = folders / "out" / "a_00001_.sega.safetensors"
        with safetensors.safe_open(path, "pt") as file:
            header, gamma = file.metadata(), file.get_tensor("gamma").clone()
        safetensors.torch.save_file({"gamma": change(gamma)}, path, header)
        with pytest.raises(ValueError, match=message):
            SEGALoadVectors.execute(names()[0])

    def test_a_single_number_that_its_header_owns_up_to(self, model, folders):
        SEGASaveVectors.execute(recorded(model)[1], "a")
        path = folders / "out" / "a_00001_.sega.safetensors"
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata()
        safetensors.torch.save_file({"gamma": torch.tensor(1.0)}, path, header | {"latent_shape": "[]"})
        with pytest.raises(ValueError, match=r"their shape is \[\]"):
            SEGALoadVectors.execute(names()[0])

    @pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16, torch.bfloat16, torch.float64])
    def test_other_precisions_are_read_as_their_numbers(self, model, folders, dtype):
        _, vectors = recorded(model)
        SEGASaveVectors.execute(vectors, "a")
        path = folders / "out" / "a_00001_.sega.safetensors"
        with safetensors.safe_open(path, "pt") as file:
            header, gamma = file.metadata(), file.get_tensor("gamma").to(dtype)
        safetensors.torch.save_file({"gamma": gamma}, path, header)
        loaded = SEGALoadVectors.execute(names()[0]).args[0]
        assert torch.equal(loaded.gamma, gamma.float()) and loaded.gamma.dtype == torch.float32

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_values_that_are_no_numbers_are_neither_saved_nor_loaded_nor_applied(self, model, folders, value):
        _, vectors = recorded(model)
        SEGASaveVectors.execute(vectors, "a")
        path = folders / "out" / "a_00001_.sega.safetensors"
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata()
        vectors.gamma[0, 0, 0, 0, 0] = value
        safetensors.torch.save_file({"gamma": vectors.gamma}, path, header)
        for use in (
            lambda: SEGALoadVectors.execute(names()[0]), lambda: SEGASaveVectors.execute(vectors, "b"),
            lambda: apply(model, vectors),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="hold NaN or infinite values"):
                use()
        assert len(names()) == 1

    def test_a_workflows_own_keys_do_not_replace_the_headers(self, model, folders):
        from semantic_steering.nodes.host.sega.vector_files import save

        _, vectors = recorded(model)
        save(vectors, "a", {"seed": "another", "model": [1], "format": None})
        assert SEGALoadVectors.execute(names()[0]).args[0].seed == SEED

    @pytest.mark.parametrize("content", [b"", b"not a file", b"\x00" * 64])
    def test_what_is_no_safetensors_file(self, folders, content):
        (folders / "in" / "x.sega.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.sega\.safetensors.*(no safetensors file|does not hold)"):
            SEGALoadVectors.execute("x.sega.safetensors")

    def test_a_file_that_is_gone_and_one_outside(self, folders):
        with pytest.raises(ValueError, match="does not exist any more"):
            SEGALoadVectors.execute("gone.sega.safetensors")
        (folders / "secret.sega.safetensors").write_bytes(b"")
        (folders / "in" / "link.sega.safetensors").symlink_to(folders / "secret.sega.safetensors")
        for name in ("../secret.sega.safetensors", "link.sega.safetensors"):
            with pytest.raises(ValueError, match=r"leads out of ComfyUI's input and output folders"):
                SEGALoadVectors.execute(name)
        with pytest.raises(ValueError, match=r"end in \.sega\.safetensors"):
            SEGALoadVectors.execute("lora.safetensors")
