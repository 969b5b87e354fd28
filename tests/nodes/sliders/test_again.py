"""After errors, interrupts and other runs the weights and bits are as they were."""

from __future__ import annotations

import comfy.hooks
import comfy.model_management
import comfy.samplers
import comfy.sd
import pytest
import tiny_models
import torch
from comfy.model_management import InterruptProcessingException
from slider_runs import FAMILY, ONE, TWO, load, run, sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bare():
    return run(FAMILY.model)


MODELS = {
    "switched": lambda: load(load(FAMILY.model, ONE, 0.5, 0.3), TWO, -0.5, 0.2, 0.6),
    "hooked": lambda: sweep(FAMILY.model, ONE, "0.5, -0.5", 0.3),
}


class TestAgain:
    """Runs of one cached MODEL object, after other runs, errors and interrupts."""

    @pytest.mark.parametrize("name", MODELS)
    @pytest.mark.parametrize("error", [RuntimeError, InterruptProcessingException])
    def test_after_an_error_in_the_middle_the_bits_are_the_same(self, name, error, bare):
        model = MODELS[name]()
        first, before = run(model), tiny_models.state_of(model)
        weights = {k: v.clone() for k, v in FAMILY.model.model.state_dict().items()}

        def stop(i, *_):
            if i == 3:
                raise error

        with pytest.raises(error):
            run(model, callback=stop)
        assert torch.equal(run(FAMILY.model), bare)
        assert all(torch.equal(weights[k], v) or name == "switched" for k, v in FAMILY.model.model.state_dict().items())
        assert torch.equal(run(model), first)
        assert tiny_models.state_of(model) == before
        assert not any(m._forward_hooks for m in FAMILY.model.model.modules())

    @pytest.mark.parametrize("name", MODELS)
    def test_the_weights_are_the_models_own_after_the_next_load(self, name):
        run(FAMILY.model)
        weights = {k: v.clone() for k, v in FAMILY.model.model.state_dict().items()}
        run(MODELS[name]())
        comfy.model_management.load_models_gpu([FAMILY.model])
        assert all(torch.equal(weights[k], v) for k, v in FAMILY.model.model.state_dict().items())

    def test_an_error_while_weights_change(self, monkeypatch, bare):
        model = MODELS["switched"]()
        first = run(model)
        load_models = comfy.model_management.load_models_gpu
        with monkeypatch.context() as patch:
            patch.setattr(comfy.model_management, "load_models_gpu", tiny_models.out_of_memory_at(2, load_models))
            with pytest.raises(torch.OutOfMemoryError):
                run(model)
        assert torch.equal(run(FAMILY.model), bare)
        assert torch.equal(run(model), first)
