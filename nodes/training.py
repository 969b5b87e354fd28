"""Training in the graph: sliders from words and from pairs of pictures, and subjects."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..guidance_core import Window, check_guidance, check_prior_weight
from .host.lora.clip import patched_clip
from .host.lora.fitting import fit
from .host.page.messages import message
from .host.page.progress import own_id, show_text
from .host.page.sweeps import numbers
from .host.sliders.patch import STRONGEST, Slider, with_slider
from .host.training import asked_by, words
from .host.training.bank import walked
from .host.training.encoder import EncoderObjective, EncoderTraining
from .host.training.kept import Kept
from .host.training.layers import CHOICES
from .host.training.memory import Plan, planned, planned_for_texts
from .host.training.pairs import PairObjective
from .host.training.prior import class_pictures
from .host.training.run import Objective, Training
from .host.training.seen import Dial, Seen
from .host.training.session import Session
from .host.training.settings import Settings, empty_latent, picture_batch
from .host.training.subject import CLASS, INSTANCE, Pictures, SubjectObjective, output
from .host.training.text import TARGET, TextObjective
from .sliders import ALIASES
from .training_inputs import common_inputs, outputs

CATEGORY = "semantic steering/training"
TRAIN_ALIASES = ["train", "train LoRA", "training", "finetune", "训练", "学習", "훈련"]
AT_ONCE = 4  # trajectories in one run
SLIDER_DIAL, SUBJECT_DIAL = ((-2.0, -1.0, 0.0, 1.0, 2.0), 2), ((0.0, 0.5, 1.0), 0)
PRIORS = ("pictures", "output")
TRAINED = ("diffusion model", "text encoder")


def _dial(model: Any, strengths: tuple[float, ...], begin: int) -> Dial:
    """The strip of Slider LoRA Loader, at its default window for a begin of 2 in 10."""

    def carrying(tensors: dict[str, Tensor], strengths: tuple[float, ...]) -> Any:
        return {"model": with_slider(model, Slider(fit(model, None, tensors, "slider"), strengths, Window()))}

    return Dial(strengths, begin, carrying)


def _encoder_dial(model: Any, clip: Any, target: str) -> Dial:
    """The strip of a slider in the text encoders, in a workflow that encodes both prompts with its clip."""

    def carrying(tensors: dict[str, Tensor], strengths: tuple[float, ...]) -> Any:
        layers = fit(model, clip, tensors, "slider")
        clips = [patched_clip(clip, layers, strength) for strength in strengths]
        asked = {"positive": target, "negative": ""}
        return {name: words.batched([words.encoded(each, text) for each in clips]) for name, text in asked.items()}

    return Dial(SLIDER_DIAL[0], 0, carrying)


def _through_the_model(
    settings: Settings, model: Any, conds: dict[str, Any], objective: Objective, factors: Any, plan: Plan
) -> Training:
    return Training(
        model, conds, objective, factors, settings.learning_rate, settings.batch_size, settings.seed,
        at_once=plan.at_once, small=plan.small,
    )  # fmt: skip


def _trained(
    node: Any, settings: Settings, training: Training, plan: Plan, seen: Seen, title: str, told: dict[str, str]
) -> io.NodeOutput:
    """What comes out of a training. title: of its file, if it is stopped."""
    kept = Kept.of(training, title, told)
    name = node.define_schema().display_name
    session = Session(training, kept, seen, plan, settings.steps, settings.show_every, name, own_id(node))
    trained = session.run()
    shown = ui.PreviewImage(trained.strip, cls=node)
    return io.NodeOutput(trained.slider, {"loss": trained.losses}, trained.strip, ui=shown)


class SliderTrainText(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderTrainText",
            display_name="Train Slider (Text)",
            category=CATEGORY,
            description="Makes a concept slider from two opposite texts, on the checkpoint you have: Run, watch the "
            "strip, stop when it is good.",
            is_output_node=True,  # it shows its strip, and is run to be watched
            search_aliases=[
                *ALIASES, *TRAIN_ALIASES, "train slider", "make a slider", "concept sliders training",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The checkpoint the slider is for. Its weights stay as they are."),
                io.Clip.Input("clip", tooltip="Of the same checkpoint."),
                io.String.Input(
                    "target", default="", multiline=True, placeholder="a portrait of a person",
                    tooltip="Whom the slider is for, such as 'a portrait of a person'. Empty: everything.",
                ),
                io.String.Input(
                    "positive", default="", multiline=True, placeholder="a portrait of a person, smiling widely",
                    tooltip="What +1 leads to: the target with the attribute at its strongest. Poles that differ in "
                    "two things give a slider of both.",
                ),
                io.String.Input(
                    "negative", default="", multiline=True, placeholder="a portrait of a person, with a serious look",
                    tooltip="What -1 leads to: the opposite, said as a thing that is there.",
                ),
                io.String.Input(
                    "preserve", default="", multiline=True, placeholder="woman\nman",
                    tooltip="What should stay, one text a line: each is put beside both poles, so that the slider "
                    "means the same for all of them. Every line costs two evaluations a state.",
                ),
                io.Float.Input(
                    "guidance", default=1.75, min=0.01, max=100.0, step=0.05, round=0.01,
                    tooltip="How far +1 goes: the paper's eta. More is a stronger dial, with more side effects.",
                ),
                *common_inputs(150, 0.002, 0.8, sized=True),
                io.Combo.Input(
                    "train", options=list(TRAINED), default=TRAINED[0], optional=True, advanced=True,
                    tooltip="text encoder: seconds in place of minutes, for a dial that acts in the whole run and may "
                    "change the composition. Put it before both prompts, by clip of Slider LoRA Loader.",
                ),
            ],
            outputs=outputs(),
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, clip, target="", positive="", negative="", preserve="", guidance=1.75, steps=150, rank=4, alpha=1.0,
        layers=CHOICES[0], learning_rate=0.002, batch_size=4, start_percent=0.0, end_percent=0.8, width=0, height=0,
        show_every=25, seed=0, cfg=5.0, slider=None, vae=None, train=TRAINED[0],
    ) -> io.NodeOutput:  # fmt: skip
        settings = Settings(
            steps, rank, alpha, layers, learning_rate, batch_size, start_percent, end_percent, show_every, seed
        )
        check_guidance(guidance)
        empty = empty_latent(model, width, height)
        texts = words.texts(target, positive, negative, preserve)
        conds = words.conditionings(clip, texts)
        of_clip = train == TRAINED[1]
        factors = settings.factors(model, slider, clip if of_clip else None)
        dial = _encoder_dial(model, clip, target) if of_clip else _dial(model, *SLIDER_DIAL)
        seen = Seen(model, conds[TARGET], words.encoded(clip, ""), cfg, empty, seed, vae, dial)
        if of_clip:
            plan = planned_for_texts(clip, max(cond[0][0].shape[-2] for cond in conds.values()), factors)
            training: Training = EncoderTraining(
                clip.patcher, {}, EncoderObjective(clip, texts, guidance), factors, settings.learning_rate,
                settings.batch_size, settings.seed, at_once=plan.at_once, clip=clip, needed=plan.needed,
            )  # fmt: skip
        else:
            plan = planned(model, empty.shape[1:], batch_size, factors)
            bank = walked(model, conds[TARGET], empty, start_percent, end_percent, seed, AT_ONCE)
            objective = TextObjective(bank, words.preserved(conds), guidance)
            training = _through_the_model(settings, model, conds, objective, factors, plan)
        told = settings.told(target=target, positive=positive, negative=negative, preserve=preserve, guidance=guidance,
                             train=train)  # fmt: skip
        return _trained(cls, settings, training, plan, seen, positive, told)


class SliderTrainImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderTrainImages",
            display_name="Train Slider (Image Pairs)",
            category=CATEGORY,
            description="Makes a concept slider from pictures before and after a change, for what no word names: a "
            "shape of the brows, a look, a retouch.",
            is_output_node=True,
            search_aliases=[
                *ALIASES, *TRAIN_ALIASES, "visual slider", "image pairs", "before after", "image slider",
                "train slider",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The checkpoint the slider is for. Its weights stay as they are."),
                io.Latent.Input("before", tooltip="The pictures without the change, a batch from VAE Encode."),
                io.Latent.Input("after", tooltip="The same pictures with it, in the same order."),
                io.Conditioning.Input(
                    "conditioning", optional=True,
                    tooltip="What all these pictures show, such as 'a portrait of a person'. Nothing: for every text "
                    "(UNet models).",
                ),
                io.String.Input(
                    "strengths", default="",
                    tooltip="How strong the change is in each pair, with commas between the numbers: 0.5, 1, 2. Empty: "
                    "1 for all.",
                ),
                *common_inputs(200, 0.002, 1.0),
            ],
            outputs=outputs(),
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, before, after, strengths="", steps=200, rank=4, alpha=1.0, layers=CHOICES[0], learning_rate=0.002,
        batch_size=4, start_percent=0.0, end_percent=1.0, show_every=25, seed=0, cfg=5.0, conditioning=None,
        slider=None, vae=None,
    ) -> io.NodeOutput:  # fmt: skip
        settings = Settings(
            steps, rank, alpha, layers, learning_rate, batch_size, start_percent, end_percent, show_every, seed
        )
        first, second = picture_batch(model, before, "before"), picture_batch(model, after, "after")
        given = numbers(strengths, "strengths", STRONGEST) if strengths.strip() else (1.0,) * len(first)
        sampling = model.get_model_object("model_sampling")
        objective = PairObjective(sampling, first, second, given, start_percent, end_percent)
        factors = settings.factors(model, slider)
        conds = {TARGET: asked_by.checked(model, conditioning, "conditioning")}
        empty = first[:1] * 0
        seen = Seen(model, conds[TARGET], asked_by.emptied(conds[TARGET]), cfg, empty, seed, vae,
                    _dial(model, *SLIDER_DIAL))  # fmt: skip
        plan = planned(model, empty.shape[1:], batch_size, factors)
        told = settings.told(strengths=", ".join(f"{strength:g}" for strength in given), pairs=len(first))
        training = _through_the_model(settings, model, conds, objective, factors, plan)
        return _trained(cls, settings, training, plan, seen, "pairs", told)


class DreamBoothTrain(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamBoothTrain",
            display_name="Train LoRA (DreamBooth)",
            category=CATEGORY,
            description="Teaches the checkpoint a subject from a few pictures, bound to a word of its own, without "
            "forgetting what the subject's class looks like.",
            is_output_node=True,
            search_aliases=[*TRAIN_ALIASES, "DreamBooth", "subject", "character LoRA", "my face", "my cat", "LoRA"],
            inputs=[
                io.Model.Input("model", tooltip="The checkpoint the LoRA is for. Its weights stay as they are."),
                io.Latent.Input("instance", tooltip="3 to 20 pictures of the subject, a batch from VAE Encode."),
                io.Conditioning.Input(
                    "instance_conditioning",
                    tooltip="What they show, with a rare word for the subject: 'a photo of sks dog'.",
                ),
                io.Conditioning.Input(
                    "class_conditioning", tooltip="The same without that word: 'a photo of a dog'."
                ),
                io.Latent.Input(
                    "class_latents", optional=True,
                    tooltip="Pictures of the class for prior pictures. Nothing: the model makes them.",
                ),
                io.Float.Input(
                    "prior_weight", default=1.0, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="How much the class should stay as it is. 0: every dog becomes yours, and pictures grow "
                    "alike.",
                ),
                io.Combo.Input(
                    "prior", options=list(PRIORS), default=PRIORS[0], advanced=True,
                    tooltip="pictures: the class stays as pictures of it are, as the paper does. output: as the model "
                    "without the LoRA answers, without any pictures.",
                ),
                *common_inputs(500, 0.004, 1.0, layers="all"),
            ],
            outputs=outputs(),
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, instance, instance_conditioning, class_conditioning, prior_weight=1.0, prior=PRIORS[0], steps=500,
        rank=4, alpha=1.0, layers="all", learning_rate=0.004, batch_size=4, start_percent=0.0, end_percent=1.0,
        show_every=25, seed=0, cfg=5.0, class_latents=None, slider=None, vae=None,
    ) -> io.NodeOutput:  # fmt: skip
        settings = Settings(
            steps, rank, alpha, layers, learning_rate, batch_size, start_percent, end_percent, show_every, seed
        )
        check_prior_weight(prior_weight)
        pictures = picture_batch(model, instance, "instance")
        of_class = None if class_latents is None else picture_batch(model, class_latents, "class_latents")
        if of_class is not None and of_class.shape[1:] != pictures.shape[1:]:
            raise ValueError("class_latents and instance are pictures of different sizes; make them the same size")
        sampling = model.get_model_object("model_sampling")
        subject = Pictures(sampling, pictures, start_percent, end_percent)
        factors = settings.factors(model, slider)
        conds = {
            INSTANCE: asked_by.checked(model, instance_conditioning, "instance_conditioning"),
            CLASS: asked_by.checked(model, class_conditioning, "class_conditioning"),
        }
        asked_by.check_different(conds[INSTANCE], conds[CLASS])
        empty = pictures[:1] * 0
        negative = asked_by.emptied(conds[CLASS])
        seen = Seen(model, conds[INSTANCE], negative, cfg, empty, seed, vae, _dial(model, *SUBJECT_DIAL))
        plan = planned(model, empty.shape[1:], batch_size, factors)
        if not prior_weight:
            held = None
        elif prior == "output":
            held = output(walked(model, conds[CLASS], empty, start_percent, end_percent, seed, AT_ONCE))
        else:
            if of_class is None:
                show_text(message("training_makes_class"), passing=True)
                of_class = class_pictures(model, conds[CLASS], empty, seed, len(pictures), AT_ONCE)
            held = Pictures(sampling, of_class, start_percent, end_percent)
        objective = SubjectObjective(subject, held, prior_weight)
        told = settings.told(prior_weight=prior_weight, prior=prior, pictures=len(pictures))
        training = _through_the_model(settings, model, conds, objective, factors, plan)
        return _trained(cls, settings, training, plan, seen, "subject", told)


NODES = [SliderTrainText, SliderTrainImages, DreamBoothTrain]
