"""Nodes whose failed runs leave something behind: one for each kind that `dev.py fuzz --faults` is there for."""

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io


class Run:
    """Of one run of the sampler."""


runs = []


def hook(guider):
    handle = guider.model_patcher.model.diffusion_model.register_forward_hook(lambda *_: None)
    return handle.remove


def kept(_):
    runs.append(Run())
    return runs.clear


def option(guider):
    guider.model_patcher.model_options["left"] = True
    return lambda: guider.model_patcher.model_options.pop("left")


def replaced(_):
    original = comfy.samplers.sampling_function
    comfy.samplers.sampling_function = lambda *args, **kwargs: original(*args, **kwargs)

    def put_back():
        comfy.samplers.sampling_function = original

    return put_back


def weight(guider):
    parameter = next(guider.model_patcher.model.diffusion_model.parameters())
    before = parameter.detach().clone()
    parameter.data.mul_(2)
    return lambda: parameter.data.copy_(before)


def nothing(_):
    return lambda: None


LEAVING = {each.__name__: each for each in (hook, kept, option, replaced, weight, nothing)}


class FaultyModel(io.ComfyNode):
    """A model whose runs do something and undo it in the end, unless they fail before."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FaultyModel", category="tests", outputs=[io.Model.Output()],
            inputs=[io.Model.Input("model"), io.Combo.Input("fault", options=[*LEAVING, "momentum"])],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, fault):
        model = model.clone()
        momentum = []

        def carries_momentum(executor, *args, **kwargs):
            momentum.append(1)
            result = executor(*args, **kwargs) + torch.tensor(float(len(momentum)))
            momentum.clear()
            return result

        def leaves(executor, *args, **kwargs):
            undo = LEAVING[fault](executor.class_obj)
            result = executor(*args, **kwargs)
            undo()
            return result

        wrapper = carries_momentum if fault == "momentum" else leaves
        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "faulty", wrapper)
        return io.NodeOutput(model)
