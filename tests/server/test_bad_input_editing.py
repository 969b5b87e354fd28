"""Bad input to the inversion and DiffEdit nodes over HTTP: a clear text each, and the server goes on working.

`random` inverts without evaluating the model, so what fails behind it fails before anything is sampled.
"""

from __future__ import annotations

import math

import pytest
from server_prompts import (
    INVERT,
    MASK,
    assert_refused,
    assert_still_runs,
    concept,
    continued,
    decoded,
    inverted,
    masked,
    node,
)

from devtools.server.client import PromptError

pytestmark = pytest.mark.server


def link(prompt, where: str, name: str, value: float):
    """The input comes over a link: the host compares only what is typed in with an input's bounds."""
    kind = "PrimitiveInt" if isinstance(value, int) else "PrimitiveFloat"
    prompt["linked"] = node(kind, value=value)
    prompt[where]["inputs"][name] = ["linked", 0]
    return prompt


class TestDDIMInvert:
    @pytest.mark.parametrize(
        ("denoise", "words"),
        [
            (0.0, ["denoise is 0.0", "above 0 and at most 1"]),
            (0.01, ["denoise 0.01 of 25 steps leaves no step", "0.04"]),
        ],
    )
    def test_a_denoise_without_a_step(self, server, denoise, words):
        assert_refused(server, inverted(denoise=denoise, steps=25), *words)
        assert_still_runs(server)

    def test_a_denoise_over_one(self, server):
        assert_refused(server, inverted(denoise=1.5), "denoise", "bigger than max", "1.5")
        assert_refused(server, link(inverted(), "invert", "denoise", 1.5), "denoise is 1.5", "at most 1")
        assert_still_runs(server)

    @pytest.mark.parametrize("name", ["denoise", "cfg"])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_numbers_that_are_none(self, server, name, value):
        assert_refused(server, inverted(**{name: value}), name, "nan" if math.isnan(value) else "inf")
        assert_still_runs(server)

    @pytest.mark.parametrize("name", ["steps", "iterations"])
    @pytest.mark.parametrize("value", [0, -3])
    def test_no_steps_or_iterations(self, server, name, value):
        assert_refused(server, inverted(**{name: value}), name, "smaller than min", str(value))
        assert_refused(server, link(inverted(), "invert", name, value), f"{name} is {value}", "at least 1")
        assert_still_runs(server)

    def test_guidance_without_a_negative(self, server):
        assert_refused(server, inverted(cfg=3.0), "cfg is 3", "negative is not connected", "set cfg to 1")
        prompt = inverted(cfg=3.0, method="ddim")
        prompt["invert"]["inputs"]["negative"] = ["empty", 0]
        server.client.run(prompt)  # with a negative it runs
        assert_still_runs(server)

    def test_a_residual_that_cannot_be_decoded(self, server):
        prompt = inverted(cfg=100.0, iterations=1)
        prompt["target"] = node("CLIPTextEncode", text="a bald man with glasses", clip=["checkpoint", 1])
        prompt["invert"]["inputs"] |= {"positive": ["target", 0], "negative": ["empty", 0]}
        with pytest.raises(PromptError) as refusal:
            server.client.run(prompt)
        for word in ("inversion step", "of 4", "relative residual", "after 1 iterations", "0.01", "Raise iterations"):
            assert word in str(refusal.value)
        assert_still_runs(server)

    def test_a_model_without_noise(self, server):
        prompt = inverted()
        prompt["patched"] = node(
            "ModelSamplingDiscrete", model=["checkpoint", 0], sampling="img_to_img_flow", zsnr=False
        )
        prompt["invert"]["inputs"]["model"] = ["patched", 0]
        assert_refused(server, prompt, "without any noise, so there is no noise to find")
        assert_still_runs(server)

    def test_flipped_sigmas(self, server):
        prompt = inverted()
        prompt["schedule"] = node("BasicScheduler", model=["checkpoint", 0], scheduler="normal", steps=4, denoise=1.0)
        prompt["flipped"] = node("FlipSigmas", sigmas=["schedule", 0])
        prompt["invert"]["inputs"]["sigmas"] = ["flipped", 0]
        assert_refused(server, prompt, "sigmas must fall", "do not flip them")
        prompt["invert"]["inputs"]["sigmas"] = ["schedule", 0]
        server.client.run(prompt)
        assert_still_runs(server)

    def test_the_high_part_of_split_sigmas(self, server):
        prompt = inverted()
        prompt["schedule"] = node("BasicScheduler", model=["checkpoint", 0], scheduler="normal", steps=4, denoise=1.0)
        prompt["split"] = node("SplitSigmas", sigmas=["schedule", 0], step=2)
        prompt["invert"]["inputs"]["sigmas"] = ["split", 0]
        assert_refused(server, prompt, "sigmas ends at", "it must end at 0", "the part with the low levels")
        assert_still_runs(server)


class TestDiffEditMask:
    @pytest.mark.parametrize("value", [0, -1])
    def test_no_maps(self, server, value):
        assert_refused(server, masked(maps=value), "maps", "smaller than min", str(value))
        assert_refused(server, link(masked(), "mask", "maps", value), f"maps is {value}", "at least 1 noise")
        assert_still_runs(server)

    def test_no_strength(self, server):
        assert_refused(server, masked(strength=0.0), "strength is 0.0", "above 0 and at most 1")
        assert_still_runs(server)

    @pytest.mark.parametrize(
        ("name", "value", "bound"),
        [
            ("strength", 1.5, "at most 1"), ("threshold", -0.5, "from 0 to 1"), ("clamp", -1.0, "above 0"),
            ("grow", -1, "0 or more pixels"), ("blur", -1, "0 or more pixels"),
        ],
    )  # fmt: skip
    def test_linked_values_out_of_range(self, server, name, value, bound):
        assert_refused(server, link(masked(), "mask", name, value), f"{name} is {value}", bound)
        assert_still_runs(server)

    @pytest.mark.parametrize("name", ["strength", "threshold", "clamp"])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_numbers_that_are_none(self, server, name, value):
        assert_refused(server, masked(**{name: value}), name, "nan" if math.isnan(value) else "inf")
        assert_still_runs(server)

    def test_a_text_that_holds_in_a_part_of_the_picture(self, server):
        prompt = masked()
        prompt["area"] = node(
            "ConditioningSetAreaPercentage", conditioning=["target", 0], width=0.5, height=0.5, x=0.0, y=0.0,
            strength=1.0,
        )  # fmt: skip
        prompt["mask"]["inputs"]["target"] = ["area", 0]
        assert_refused(server, prompt, "target is limited by area", "Connect the conditioning from before the limit")
        assert_still_runs(server)


class TestDiffEditSampler:
    @pytest.mark.parametrize("size", [(64, 32), (32, 64), (512, 256)])
    def test_a_mask_of_another_aspect(self, server, size):
        prompt = decoded(method="random")
        prompt["mask"]["inputs"] |= {"width": size[0], "height": size[1]}
        assert_refused(server, prompt, f"mask is {size[0]}x{size[1]} pixels", "64x64", "do not show the same picture")
        assert_still_runs(server)

    def test_masks_for_another_number_of_pictures(self, server):
        prompt = decoded(method="random")
        prompt["one"], prompt["two"] = prompt["mask"], node("MaskToImage", mask=["one", 0])
        prompt["three"] = node("RepeatImageBatch", image=["two", 0], amount=3)
        prompt["mask"] = node("ImageToMask", image=["three", 0], channel="red")
        assert_refused(server, prompt, "mask has a batch of 3", "the latent a batch of 1", "one for each picture")
        assert_still_runs(server)

    @pytest.mark.parametrize(
        "patch",
        [
            node("ModelSamplingDiscrete", model=["checkpoint", 0], sampling="eps", zsnr=False),
            node("ModelSamplingFlux", model=["checkpoint", 0], max_shift=1.15, base_shift=0.5, width=64, height=64),
            node("ModelSamplingDiscrete", model=["checkpoint", 0], sampling="v_prediction", zsnr=True),
        ],
        ids=["type", "flow", "zero terminal signal"],
    )
    def test_an_inversion_of_another_model(self, server, patch):
        prompt = decoded(method="random")
        prompt["patched"] = patch
        prompt["edit"]["inputs"]["model"] = ["patched", 0]
        assert_refused(server, prompt, "the inversion was made by another model", "V_PREDICTION", "σ_max",
                       "Connect the model that was connected to DDIM Invert")  # fmt: skip
        assert_still_runs(server)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_cfg_that_is_no_number(self, server, value):
        prompt = decoded(method="random")
        prompt["edit"]["inputs"]["cfg"] = value
        assert_refused(server, prompt, "cfg", "nan" if math.isnan(value) else "inf")
        assert_still_runs(server)

    def test_a_cfg_below_zero_over_a_link(self, server):
        assert_refused(server, link(decoded(method="random"), "edit", "cfg", -1.0), "cfg is -1.0", "0 or more")
        assert_still_runs(server)


class TestAllThree:
    @pytest.mark.parametrize(("make", "where"), [(inverted, "invert"), (masked, "mask")])
    def test_a_model_that_is_steered_already(self, server, make, where):
        name = {"invert": "DDIM Invert", "mask": "DiffEdit Mask"}[where]
        prompt = make()
        prompt["concept"] = concept()
        prompt["guidance"] = node(
            "SEGAGuidance", model=["checkpoint", 0], concepts=["concept", 0], momentum_scale=0.1, momentum_beta=0.4,
            threshold_over="channel", base="auto",
        )  # fmt: skip
        prompt[where]["inputs"]["model"] = ["guidance", 0]
        assert_refused(server, prompt, "model already carries SEGA Guidance", name, "from before SEGA Guidance")
        assert_still_runs(server)

    @pytest.mark.parametrize("make", [inverted, masked])
    def test_a_latent_of_another_model_family(self, server, make):
        prompt = make()
        prompt["latent"] = node("ProbeLatent", channels=16)
        assert_refused(server, prompt, "latent_image has 16 channels", "4", "VAE")
        assert_still_runs(server)

    @pytest.mark.parametrize("make", [inverted, masked])
    def test_a_packed_latent(self, server, make):
        prompt = make()
        prompt["one"] = prompt["latent"]
        prompt["latent"] = node("LTXVConcatAVLatent", video_latent=["one", 0], audio_latent=["one", 0])
        assert_refused(server, prompt, "latent_image is a packed latent", "alone")
        assert_still_runs(server)

    def test_the_noise_of_an_inversion_on_another_latent(self, server):
        prompt = continued("other", method="random")
        prompt["other"] = node("EmptyLatentImage", width=96, height=64, batch_size=1)
        assert_refused(server, prompt, "the noise of this inversion", "[1, 4, 8, 8]", "[1, 4, 8, 12]",
                       "connect the latent that was inverted")  # fmt: skip
        assert_still_runs(server)

    def test_all_number_inputs_are_covered(self, object_info):
        """Every number that a node checks by itself is sent as NaN or out of range above."""
        floats = {"DDIMInvert": {"denoise", "cfg"}, "DiffEditMask": {"strength", "threshold", "clamp"}}
        floats["DiffEditSampler"] = {"cfg"}
        ints = {"DDIMInvert": {"steps", "iterations", "seed"}, "DiffEditMask": {"maps", "grow", "blur", "seed"}}
        for kind, tested in (("FLOAT", floats), ("INT", {**ints, "DiffEditSampler": set()})):
            for name, names in tested.items():
                groups = object_info[name]["input"].values()
                assert {key for group in groups for key, spec in group.items() if spec[0] == kind} == names
        assert set(INVERT) | set(MASK) >= floats["DDIMInvert"] | floats["DiffEditMask"]
