"""A slider in the text encoder trained through the diffusion model's loss, which the node does not offer: measured
beside the node's own way, which asks the text encoder alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from demo.sliders import TARGET, poles

from .editing import pack


def of_encoder_through_model(lab: Any, name: str, steps: int = 150) -> tuple[dict[str, Tensor], float]:
    """(slider, seconds): the features e(c; ±1) of the text asked by, in the objective of Train Slider (Text):

    n(x, e(c; ±1)) = n*(x, c) ± η·(n*(x, c₊) − n*(x, c₋))
    """
    node, room = pack("nodes.training"), "nodes.host.training."
    encoder, factors, layers = (pack(room + part) for part in ("encoder", "factors", "layers"))
    words, run, frozen = (pack(room + part) for part in ("words", "run", "frozen"))
    squared_error, noise_estimate = pack("guidance_core").squared_error, pack("guidance_core").noise_estimate
    texts, text_network = words.texts(TARGET, *poles(name), ""), lab.clip.cond_stage_model

    class Through(node.TextObjective):
        def loss(self, model: Any, *drawn: Tensor) -> Tensor:
            x, sigma, name, targets = self.goals(model, *drawn)
            errors = []
            for strength, target in zip((1.0, -1.0), targets, strict=True):
                features = training.encoder.trained(name, strength)["cond"]
                training.factors.strengths = None  # the diffusion model's own layers have none
                given = model.conds[name][0]["model_conds"]["c_crossattn"]
                before, given.cond = given.cond, features
                try:
                    found = noise_estimate(x, model._asked([model.conds[name]], x, sigma)[0], sigma)
                finally:
                    given.cond = before
                errors.append(squared_error(found, target))
            return torch.stack(errors).mean()

    class BehindEncoder(run.Training):
        encoder: Any

        def steps(self, asked: Any, network: Any, until: int, go_on: Callable[[], bool]) -> None:
            self.encoder = encoder.Encoder(lab.clip, self.factors, texts)
            with (
                torch.inference_mode(False), torch.enable_grad(), frozen.differentiable(network),
                frozen.differentiable(text_network), self.factors.applied(text_network),
            ):  # fmt: skip
                while len(self.losses) < until:
                    self.step(asked)

    started = time.perf_counter()
    with torch.inference_mode():
        conds = words.conditionings(lab.clip, texts)
        empty = torch.zeros(1, 4, 16, 16)
        bank = node.walked(lab.model, conds["target"], empty, 0.0, 0.8, 0, node.AT_ONCE)
        made = factors.Factors(layers.chosen_of_text(lab.clip, "no cross-attention", 4), 4, 1.0, 0)
        training = BehindEncoder(lab.model, conds, Through(bank, 1, 1.75), made, 0.002, 4, 0)
        training.run(steps)
    return made.tensors(), time.perf_counter() - started
