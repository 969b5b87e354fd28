"""A scale for each picture of a batch: the list, the batch, and pictures that equal their own runs."""

from __future__ import annotations

import comfy.nested_tensor
import comfy.sample
import pytest
import tiny_models
import torch
from semantic_steering.nodes.host.page.sweeps import captions, numbers, repeated
from semantic_steering.nodes.sega import SEGAConceptConditioning, SEGAGuidance, SEGASampler, SEGASweep

POSITIVE, NEGATIVE, TARGET, OTHER = (tiny_models.unet_cond(seed) for seed in (1, 2, 3, 4))
EMPTY = {"samples": torch.zeros(1, 4, 8, 8)}
SCALES = (-8.0, 0.0, 3.0, 9.0)


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("-2, -1, 0, 1, 2", (-2, -1, 0, 1, 2)), (" 1;2 ; 3", (1, 2, 3)), ("0.5\n-.25\r\n\t+1e1", (0.5, -0.25, 10)),
            ("\N{MINUS SIGN}3, \N{MINUS SIGN}1.5,", (-3, -1.5)), ("7", (7,)), ("20 -20 -0", (20, -20, 0)),
        ],
    )  # fmt: skip
    def test_a_list_as_users_write_it(self, text, expected):
        assert numbers(text, "scales", 20) == expected

    @pytest.mark.parametrize("text", ["", "  \n", ",;,"])
    def test_an_empty_list_is_refused(self, text):
        with pytest.raises(ValueError, match="strengths is empty; write a number for each picture, such as -2, -1"):
            numbers(text, "strengths", 20)

    @pytest.mark.parametrize("entry", ["high", "1..2", "--3", "2x", "1/2"])
    def test_what_is_no_number_is_refused(self, entry):
        with pytest.raises(ValueError, match=f"strengths holds '{entry}', which is not a number; write numbers with"):
            numbers(f"1, {entry}, 3", "strengths", 20)

    @pytest.mark.parametrize("entry", ["nan", "inf", "-Infinity", "20.001", "-21", "1e30"])
    def test_what_is_out_of_bounds_is_refused(self, entry):
        with pytest.raises(ValueError, match=f"strengths holds {entry}; each must be a number from -20 to 20"):
            numbers(f"1, {entry}, 3", "strengths", 20)


def test_captions_are_signed_lines():
    assert captions((-2.0, -0.0, 0.0, 1.5, 10.0)) == "-2\n0\n0\n+1.5\n+10"


class TestRepeated:
    @pytest.mark.parametrize("shape", [(1, 4, 6, 5), (1, 4, 3, 6, 5)])
    @pytest.mark.parametrize("index", [None, 5])
    def test_every_entry_gets_the_noise_of_the_one(self, shape, index):
        latent = {"samples": tiny_models.noise(*shape), "kind": "kept"} | (
            {} if index is None else {"batch_index": [index]}
        )
        found = repeated(latent, 3)
        assert found["samples"].shape == (3, *shape[1:])
        assert found["kind"] == "kept"
        assert len(latent["samples"]) == 1  # the input is not changed
        single = comfy.sample.prepare_noise(latent["samples"], 7, latent.get("batch_index"))
        noises = comfy.sample.prepare_noise(found["samples"], 7, found["batch_index"])
        for i in range(3):
            assert torch.equal(found["samples"][i : i + 1], latent["samples"])
            assert torch.equal(noises[i : i + 1], single)

    @pytest.mark.parametrize(
        ("shape", "mask"),
        [
            ((1, 4, 6, 5), (1, 1, 48, 40)), ((1, 4, 6, 5), (1, 48, 40)), ((1, 4, 6, 5), (3, 1, 48, 40)),
            ((1, 4, 3, 6, 5), (1, 1, 48, 40)), ((1, 4, 3, 6, 5), (3, 1, 48, 40)), ((1, 4, 3, 6, 5), (1, 1, 3, 6, 5)),
        ],
    )  # fmt: skip
    def test_every_entry_gets_the_noise_mask_of_the_one(self, shape, mask):
        from comfy.sampler_helpers import prepare_mask

        latent = {"samples": tiny_models.noise(*shape), "noise_mask": tiny_models.noise(*mask, seed=1)}
        single = prepare_mask(latent["noise_mask"], torch.Size(shape), tiny_models.CPU)
        found = prepare_mask(repeated(latent, 3)["noise_mask"], torch.Size([3, *shape[1:]]), tiny_models.CPU)
        for i in range(3):
            assert torch.equal(found[i : i + 1], single)

    def test_a_batch_of_several_is_refused(self):
        with pytest.raises(ValueError, match=r"latent_image is a batch of 4; .*Latent From Batch"):
            repeated({"samples": torch.zeros(4, 4, 6, 6)}, 3)

    def test_a_packed_latent_is_refused(self):
        nested = comfy.nested_tensor.NestedTensor([torch.zeros(1, 4, 6, 6), torch.zeros(1, 4, 6)])
        with pytest.raises(ValueError, match="latent_image is a packed latent"):
            repeated({"samples": nested}, 3)


@pytest.fixture(scope="module")
def model():
    return tiny_models.unet_model()


def sampled(model, concepts, latent, sampler="euler", scheduler="normal", cfg=4.0, **options):
    return SEGASampler.execute(
        model, 11, 5, cfg, sampler, scheduler, POSITIVE, NEGATIVE, latent, concepts=concepts, **options
    ).args[:2]


def swept(*concepts, latent=EMPTY, scales=SCALES):
    found, batch, labels = SEGASweep.execute(concepts, latent, " ".join(str(scale) for scale in scales)).args
    assert len(labels.splitlines()) == len(scales)
    return found, batch


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [(0.0, 0.4), (0.1, 0.4), (0.8, 0.7)])
@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "uni_pc"])
def test_every_entry_is_its_own_run(model, sampler, cfg, momentum):
    """Beside a concept that keeps its scale, and with windows of their own: at scale 0 the other's momentum does not
    wait for the swept one.

    Without thresholds: batched and single forwards differ by rounding, which can carry a cell over its threshold. That
    these hold picture by picture is the core's (test_sega_equations).
    """
    options = {"cfg": cfg, "momentum_scale": momentum[0], "momentum_beta": momentum[1]}
    steady = tiny_models.concept(OTHER, 2.0, start=0.1, end=0.9)
    target = tiny_models.concept(TARGET, 5.0, start=0.4)
    latents, maps = sampled(model, *swept(steady, target), sampler, **options)
    for i, scale in enumerate(SCALES):
        alone = tiny_models.concept(TARGET, scale, start=0.4)
        single, own = sampled(model, (steady, alone), EMPTY, sampler, **options)
        assert tiny_models.relative(latents["samples"][i : i + 1], single["samples"]) < 1e-4, scale
        assert maps[2 * i].any() and bool(maps[2 * i + 1].any()) is (scale != 0)
        assert torch.equal(maps[2 * i : 2 * i + 2], own)
    samples = latents["samples"]
    assert all(tiny_models.relative(samples[i], samples[1]) > 0.01 for i in (0, 2, 3))


def test_a_latent_of_a_batch_keeps_its_own_noise(model):
    latent = {**EMPTY, "batch_index": [3]}
    latents, _ = sampled(model, *swept(tiny_models.concept(TARGET), latent=latent, scales=(0.0, 4.0)))
    for i, scale in enumerate((0.0, 4.0)):
        single, _ = sampled(model, (tiny_models.concept(TARGET, scale),), latent)
        assert tiny_models.relative(latents["samples"][i : i + 1], single["samples"]) < 1e-4
        first, _ = sampled(model, (tiny_models.concept(TARGET, scale),), EMPTY)
        assert tiny_models.relative(first["samples"], single["samples"]) > 0.1  # another noise than without an index


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("size", [tiny_models.SIZE, (4, 3, 5, 5)])
def test_an_entry_of_scale_0_has_the_bits_of_the_batch_without_the_concept(size, momentum):
    """With the stub, whose answers do not depend on what is in the same call."""
    model = tiny_models.stub_model(size=size)
    positive, negative, target = (tiny_models.stub_cond(seed, size=size) for seed in (1, 2, 3))
    start = tiny_models.noise(1, *size).repeat(3, *[1] * len(size))
    steered = tiny_models.steer(model, tiny_models.concept(target, (0.0, 4.0, 0.0), 0.5), momentum=momentum)
    edited = tiny_models.sample_cfg(steered, positive, negative, start=start)
    plain = tiny_models.sample_cfg(model, positive, negative, start=start)
    assert torch.equal(edited[[0, 2]], plain[[0, 2]])
    assert tiny_models.relative(edited[1], plain[1]) > 0.01


def test_each_scale_multiplies_its_pictures_term():
    """And the conditioning's own strength multiplies all of them."""
    model, step = tiny_models.stub_model(), torch.tensor([2.0, 0.0])
    positive, negative, target = (
        tiny_models.stub_cond(1),
        tiny_models.stub_cond(2),
        tiny_models.stub_cond(3, strength=0.5),
    )
    start = tiny_models.noise(1, *tiny_models.SIZE).repeat(4, 1, 1, 1)
    steered = tiny_models.steer(model, tiny_models.concept(target, SCALES))
    plain, edited = (tiny_models.sample_cfg(m, positive, negative, start=start, sigmas=step) for m in (model, steered))
    difference = tiny_models.eps_of(target) - tiny_models.eps_of(negative)
    expected = torch.cat([0.5 * scale * difference for scale in SCALES])
    torch.testing.assert_close(tiny_models.added_term(plain, edited, step), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"strength": 0.0}])
def test_scales_of_0_alone_cost_nothing(model, options):
    scales = (0.0, 0.0) if not options else (3.0, 5.0)
    calls = tiny_models.recorded(model)
    concepts, batch = swept(tiny_models.concept(tiny_models.unet_cond(3, **options)), scales=scales)
    found, _ = sampled(calls.model, concepts, batch)
    assert calls.batches == [4] * 5
    assert torch.equal(found["samples"], sampled(model, None, batch)[0]["samples"])


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_another_batch_than_the_sweeps_is_refused_before_sampling(model, batch):
    concepts, _ = swept(tiny_models.concept(TARGET))
    calls = tiny_models.recorded(model)
    with pytest.raises(ValueError, match=rf"has 4 scales, latent_image is a batch of {batch}: .*output of SEGA Sweep"):
        sampled(calls.model, concepts, {"samples": torch.zeros(batch, 4, 8, 8)})
    assert not calls.seen


class TestSEGASweep:
    def test_the_last_concepts_scale_and_direction_are_replaced(self):
        (first,) = SEGAConceptConditioning.execute(OTHER, scale=2.0).args
        (chain,) = SEGAConceptConditioning.execute(TARGET, direction="remove", threshold=0.7, concepts=first).args
        concepts, latent, labels = SEGASweep.execute(chain, EMPTY).args
        assert concepts[0] is first[0]
        assert concepts[1].scale == (-10, -5, 0, 5, 10)
        assert (concepts[1].name, concepts[1].threshold, concepts[1].window) == ("concept 2", 0.7, chain[1].window)
        assert chain[1].scale == -5.0  # the given chain stays
        assert len(latent["samples"]) == 5
        assert labels == "-10\n-5\n0\n+5\n+10"

    def test_it_serves_sega_guidance_and_the_hosts_ksampler(self, model):
        from nodes import common_ksampler

        concepts, batch = swept(tiny_models.concept(TARGET, threshold=0.8))
        (patched,) = SEGAGuidance.execute(model, concepts).args
        (separate,) = common_ksampler(patched, 11, 5, 4.0, "euler", "normal", POSITIVE, NEGATIVE, batch)
        assert torch.equal(separate["samples"], sampled(model, concepts, batch)[0]["samples"])

    @pytest.mark.parametrize("concepts", [None, ()])
    def test_an_empty_chain_is_refused(self, concepts):
        with pytest.raises(ValueError, match=r"concepts is empty: .*connect a SEGA Concept"):
            SEGASweep.execute(concepts, EMPTY)

    @pytest.mark.parametrize(("scales", "words"), [("", "scales is empty"), ("1, 20.5", "scales holds 20.5")])
    def test_a_wrong_list_is_refused(self, scales, words):
        with pytest.raises(ValueError, match=words):
            SEGASweep.execute((tiny_models.concept(TARGET),), EMPTY, scales)
