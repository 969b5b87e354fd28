"""SEGA and sliders beside nodes that change how the model is evaluated: in windows, compiled, on several devices."""

from __future__ import annotations

import shutil

import comfy.ldm.lumina.model
import comfy.model_management
import comfy.patcher_extension
import family_models
import lora_states as states
import pytest
import tiny_models
import torch
from comfy.context_windows import ContextFuseMethods, ContextSchedules, IndexListCallbacks
from comfy.ldm.modules.attention import attention_pytorch
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from comfy_extras.nodes_multigpu import MultiGPUCFGSplitNode
from comfy_extras.nodes_torch_compile import TorchCompileModel
from edits_by_hand import ACTS, CLOSE, NEUTRAL, chain, compat, steered
from slider_runs import ONE, load, sweep

pytestmark = pytest.mark.slow

COMPILERS = ("g++", "clang++", "cl")


def windowed(model, length, overlap, dim):
    """The MODEL behind Context Windows (Manual), and what its handler was asked for."""
    model = ContextWindowsManualNode.execute(
        model, length, overlap, ContextSchedules.STATIC_STANDARD, 1, False, ContextFuseMethods.PYRAMID, dim, False
    ).args[0]
    calls = []
    comfy.patcher_extension.add_callback_with_key(
        IndexListCallbacks.EXECUTE_START, "test", lambda *found: calls.append(len(found[3])),
        model.model_options["context_handler"].callbacks,
    )  # fmt: skip
    return model, calls


class TestContextWindows:
    @compat("Context windows")
    def test_a_video_model(self):
        """Nine frames in windows of four: the concept is evaluated in every window, by one call of the handler."""
        wan = family_models.wan()
        start = tiny_models.noise(1, 16, 9, 8, 8)
        model, handled = windowed(wan.model, 4, 1, 2)
        plain = wan.sample(model, start)
        assert tiny_models.relative(plain, wan.sample(wan.model, start)) > ACTS
        assert torch.equal(wan.sample(steered(model, NEUTRAL), start), plain)
        handled.clear()
        calls = tiny_models.recorded(steered(model, chain(tiny_models.unet_cond(3, 8), start=0.3)))
        assert tiny_models.relative(wan.sample(calls.model, start), plain) > ACTS
        assert handled == [2, 3, 3, 3]
        windows = len(calls.seen) // 4
        assert windows >= 3
        assert [call.conds for call in calls.seen] == [[1, 0]] * windows + [[2, 1, 0]] * 3 * windows

    @compat("Context windows")
    def test_the_edit_is_that_of_the_fused_windows(self):
        """One evaluation: Δn of the concept's and the negative's estimates, each put together from its own windows."""
        wan, target = family_models.wan(), tiny_models.unet_cond(3, 8)
        start, sigmas = tiny_models.noise(1, 16, 9, 8, 8), torch.tensor([0.5, 0.0])
        model, _ = windowed(wan.model, 4, 1, 2)

        def x0(one, positive, negative=None, cfg=1.0):
            return tiny_models.sample_cfg(one, positive, negative, cfg, start, sigmas)

        plain, edited = (
            x0(one, wan.positive, wan.negative, 3.0) for one in (model, steered(model, chain(target, threshold=0.0)))
        )
        expected = 2.0 * (x0(model, wan.negative) - x0(model, target))
        assert tiny_models.relative(plain - edited, expected) < CLOSE

    @compat("Context windows", "slider")
    @pytest.mark.parametrize("way", ["switched", "hooked"])
    def test_a_batch_of_frames(self, way):
        """On an image model frames are a batch, whose entries know nothing of each other: windows change nothing."""
        sd = family_models.sd()
        start = sd.noise(6)
        to = "both" if way == "switched" else "positive"
        one, other = (load(model, ONE, 0.5, 0.3, to=to) for model in (windowed(sd.model, 4, 2, 0)[0], sd.model))
        found, expected = sd.sample(one, start), sd.sample(other, start)
        assert tiny_models.relative(found, expected) < CLOSE
        assert tiny_models.relative(found, sd.sample(sd.model, start)) > ACTS / 10

    @compat("Context windows", "Slider Sweep")
    def test_a_sweep_of_what_windows_take_apart_is_refused(self, record_property):
        """A strength belongs to a picture of the whole batch, not to a place in a window."""
        sd = family_models.sd()
        strengths = "0, 0.2, 0.4, 0.6, 0.8, 1"
        with pytest.raises(ValueError, match=r"context windows \(dim 0\) take the batch apart") as refused:
            sd.sample(sweep(windowed(sd.model, 4, 2, 0)[0], ONE, strengths, 0.3), sd.noise(6))
        record_property("no", f"windows over the batch are refused before sampling: {refused.value}")
        wide, plain = (sweep(model, ONE, strengths, 0.3) for model in (windowed(sd.model, 6, 2, 0)[0], sd.model))
        assert torch.equal(sd.sample(wide, sd.noise(6)), sd.sample(plain, sd.noise(6)))


class Compiled:
    """A small DiT behind TorchCompileModel, without a backend that takes long: torch's own graphs, run as they are."""

    def __init__(self, backend="eager"):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        self.family = family_models.lumina()
        self.start = self.family.noise()
        self.state = states.kohya(
            states.targets(self.family.model, "diffusion_model.", lambda name: "attention" in name)
        )
        self.model = TorchCompileModel.execute(self.family.model, backend).args[0]

    def run(self, change=lambda model: model, compiled=True, steps=4):
        return self.family.sample(change(self.model if compiled else self.family.model), self.start, steps)

    @property
    def graphs(self):
        return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.fixture(scope="module", autouse=True)
def attention_of_a_gpu():
    """The CPU's own asks for free memory at each call, which no graph can hold."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.ldm.lumina.model, "optimized_attention_masked", attention_pytorch)
        yield


@pytest.fixture(scope="module")
def compiled():
    yield Compiled()
    torch._dynamo.reset()


class TestTorchCompile:
    @compat("torch.compile")
    @pytest.mark.slow
    def test_sega(self, compiled):
        def change(model):
            return steered(model, chain(tiny_models.unet_cond(3, 8), start=0.3))

        plain = compiled.run()
        assert compiled.graphs > 0
        assert torch.equal(compiled.run(lambda model: steered(model, NEUTRAL)), plain)
        found = compiled.run(change)
        assert tiny_models.relative(found, compiled.run(change, compiled=False)) < CLOSE
        assert tiny_models.relative(found, plain) > ACTS
        graphs = compiled.graphs
        assert compiled.run(change, steps=9).isfinite().all()  # both batch sizes are known: more steps compile nothing
        assert compiled.graphs == graphs

    @compat("torch.compile", "slider")
    @pytest.mark.parametrize("to", ["both", "positive"])
    def test_sliders(self, compiled, to):
        """In both ways: other weights in the compiled network, and hooks, which it was not compiled with."""

        def change(model):
            return load(model, compiled.state, 0.5, 0.3, to=to)

        plain = compiled.run()
        found = compiled.run(change)
        assert tiny_models.relative(found, compiled.run(change, compiled=False)) < CLOSE
        assert tiny_models.relative(found, plain) > ACTS / 10
        graphs = compiled.graphs
        assert torch.equal(compiled.run(), plain)
        assert torch.equal(compiled.run(change), found)
        assert compiled.graphs == graphs

    @compat("torch.compile")
    @pytest.mark.slow
    @pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="torch's inductor needs a C++ compiler")
    def test_sega_with_the_nodes_own_backend(self):
        compiled = Compiled("inductor")

        def change(model):
            return steered(model, chain(tiny_models.unet_cond(3, 8)))

        assert tiny_models.relative(compiled.run(change), compiled.run(change, compiled=False)) < CLOSE
        torch._dynamo.reset()


def on_two_devices(monkeypatch, build):
    """The MODEL behind MultiGPU CFG Split, whose second device is the CPU under its other name."""
    # The node trips over entries of this list whose MODEL is gone.
    monkeypatch.setattr(comfy.model_management, "current_loaded_models", [])
    devices = [tiny_models.CPU, torch.device("cpu", 0)]
    monkeypatch.setattr(comfy.model_management, "get_all_torch_devices", lambda exclude_current=False: devices)
    model = build()
    model.cached_patcher_init = (build, ())
    split = MultiGPUCFGSplitNode.execute(model, 2).args[0]
    (other,) = split.get_additional_models_with_key("multigpu")
    assert other.load_device == devices[1] and other.model is not model.model
    return model, split, other


class TestMultiGPU:
    @compat("MultiGPU CFG Split")
    def test_concepts_are_split_over_the_devices(self, monkeypatch):
        model, split, _ = on_two_devices(monkeypatch, tiny_models.unet_model)
        start = tiny_models.noise(1, 4, 8, 8)
        words = [tiny_models.unet_cond(i) for i in (1, 2)]

        def run(one):
            return tiny_models.sample_cfg(one, *words, 4.0, start, tiny_models.schedule(model, 4))

        alone = run(split)
        assert tiny_models.relative(alone, run(model)) < CLOSE
        assert torch.equal(run(steered(split, NEUTRAL)), alone)
        concepts = chain(concepts=chain(tiny_models.unet_cond(4)))
        calls = tiny_models.recorded(steered(split, concepts))
        found = run(calls.model)
        assert calls.batches == [2] * 8  # four conditionings, two for each device
        assert tiny_models.relative(found, run(steered(model, concepts))) < CLOSE
        assert tiny_models.relative(found, alone) > ACTS

    @compat("MultiGPU CFG Split")
    def test_before_or_after(self, monkeypatch):
        model, split, _ = on_two_devices(monkeypatch, tiny_models.unet_model)
        after = MultiGPUCFGSplitNode.execute(steered(model), 2).args[0]
        start = tiny_models.noise(1, 4, 8, 8)
        one, other = (
            tiny_models.sample_cfg(m, tiny_models.unet_cond(1), tiny_models.unet_cond(2), start=start)
            for m in (steered(split), after)
        )
        assert tiny_models.relative(one, other) < CLOSE

    @compat("MultiGPU CFG Split", "slider")
    @pytest.mark.parametrize("to", ["both", "positive"])
    @pytest.mark.parametrize("first", ["slider", "split"])
    def test_sliders_act_on_every_device(self, monkeypatch, to, first):
        sd = family_models.sd()
        model, split, other = on_two_devices(monkeypatch, lambda: family_models.sd().model)
        start = sd.noise(2)
        if first == "split":
            found = sd.sample(load(split, ONE, 0.5, 0.3, to=to), start)
        else:
            found = sd.sample(MultiGPUCFGSplitNode.execute(load(model, ONE, 0.5, 0.3, to=to), 2).args[0], start)
        expected = sd.sample(load(model, ONE, 0.5, 0.3, to=to), start)
        assert tiny_models.relative(found, expected) < CLOSE
        assert tiny_models.relative(found, sd.sample(model, start)) > ACTS / 10
        assert not any(m._forward_hooks for network in (other, model) for m in network.model.modules())
