"""A training from its first step to its last: what is said and shown meanwhile, and what becomes of one that ends
before."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import comfy.model_management
import comfy.utils
from PIL import Image
from torch import Tensor

from ..page.finishing import finishable
from ..page.messages import Message, joined, lines, message
from ..page.progress import show_preview, show_text
from .kept import Kept
from .memory import GIGABYTE, Plan
from .run import Diverged, Training
from .seen import Seen

logger = logging.getLogger("semantic_steering")

MEAN_OF = 20  # steps of the moving mean
OFTEN = 0.2  # seconds between two texts
LONGEST_SIDE = 1280  # pixels of the live strip
STILL = 1.05  # a response that grows by less from one strip to the next grows no longer


@dataclass(frozen=True)
class Trained:
    """slider: LORA_MODEL; losses: one a step; strip: IMAGE."""

    slider: dict[str, Tensor]
    losses: list[float]
    strip: Tensor


@dataclass
class Session:
    """One run of a training node. title: the node's; node: its id, None where nobody sees it."""

    training: Training
    kept: Kept
    seen: Seen
    plan: Plan
    steps: int
    show_every: int
    title: str
    node: str | None
    _strips: list[tuple[int, float]] = field(default_factory=list)  # (step, response)
    _strip: Tensor | None = None
    _said: float = 0.0  # when
    _seconds: float = 0.0  # in steps
    _timed: int = 0  # of them

    def run(self) -> Trained:
        """To the last step, or to where the page says that it is enough. After Cancel, or an error, what is trained
        stays as a file and the host has its exception."""
        training = self.training
        show_text(self._memory(), passing=True)
        resumed = self.kept.resume(training)
        if resumed:
            logger.info("%s goes on from step %d", self.title, resumed)
        progress = comfy.utils.ProgressBar(self.steps)
        with finishable() as finished:

            def stepped() -> bool:
                progress.update_absolute(len(training.losses), self.steps)
                self._say()
                return not finished()

            try:
                while len(training.losses) < self.steps and not finished():
                    done = len(training.losses)
                    until = min((done // self.show_every + 1) * self.show_every, self.steps)
                    start = time.perf_counter()
                    training.run(until, stepped)
                    self._seconds += time.perf_counter() - start
                    self._timed += len(training.losses) - done
                    self._look()
                if self._strip is None:
                    self._look()
            except comfy.model_management.InterruptProcessingException:
                self._keep("interrupted")
                raise
            except Exception as problem:
                self._keep("failed", forget=isinstance(problem, Diverged))
                raise
        assert self._strip is not None
        self._end()
        return Trained(training.factors.tensors(), list(training.losses), self._strip)

    def _memory(self) -> Message:
        needed, free = (f"{size / GIGABYTE:.1f}" for size in (self.plan.needed, self.plan.free))
        logger.info("%s: about %s GB beside the model, %s GB free; %s", self.title, needed, free, self.training.way)
        return message("training_needs", needed=needed, free=free)

    def _say(self) -> None:
        now = time.perf_counter()
        if now - self._said < OFTEN:
            return
        self._said = now
        losses = self.training.losses
        parts = [message("training_step", step=len(losses), total=self.steps, loss=figure(losses[-1]),
                         mean=figure(mean(losses)))]  # fmt: skip
        if self._timed:
            left = self._seconds / self._timed * (self.steps - len(losses))
            parts.append(message("training_left", time=clock(left)))
        done = self._done()
        if done is not None:
            parts.append(message("training_done_at", step=done))
        show_text(joined("semicolon", parts), passing=True)

    def _look(self) -> None:
        """The strip of the slider as it is now."""
        latents = self.seen.latents(self.training.factors.tensors())
        self._strips.append((len(self.training.losses), self.seen.response(latents)))
        self._strip = self.seen.strip(latents)
        if self.node is not None:
            picture = Image.fromarray((self._strip[0] * 255).round().byte().numpy())
            picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            show_preview(picture, self.node)

    def _done(self) -> int | None:
        """The step since which the response has not grown, over the last three strips at least."""
        return still_since(self._strips)

    def _keep(self, why: str, forget: bool = False) -> None:
        """The slider so far, as a file. forget: nobody would go on from it."""
        try:
            path = self.kept.write(self.training, why)
        except OSError:
            logger.exception("what was trained could not be kept")
            return
        if path is None:
            return
        if forget:
            self.kept.forget()
        key = "training_kept" if forget else "training_kept_to_go_on"
        show_text(message(key, step=len(self.training.losses), file=f"{path.parent.name}/{path.name}"))

    def _end(self) -> None:
        losses = self.training.losses
        parts = [message("trained", step=len(losses), time=clock(self._seconds), first=figure(mean(losses[:MEAN_OF])),
                         last=figure(mean(losses)))]  # fmt: skip
        done = self._done()
        if done is not None:
            parts.append(message("training_done_at", step=done))
        said = joined("semicolon", parts)
        logger.info("%s: %s", self.title, said)
        if len(losses) < self.steps:
            path = self.kept.write(self.training, "finished")
            more = message("training_finished", total=self.steps, file="" if path is None else path.name)
            said = lines([said, more])
        else:
            self.kept.forget()
        show_text(said)


def still_since(strips: list[tuple[int, float]]) -> int | None:
    """Of (step, response): the first step after which no response is more than that times STILL; None where that is
    not true of two strips after one."""
    for i, (step, size) in enumerate(strips[:-2]):
        if size > 0 and all(later <= STILL * size for _, later in strips[i + 1 :]):
            return step
    return None


def mean(losses: list[float]) -> float:
    recent = losses[-MEAN_OF:]
    return sum(recent) / len(recent)


def figure(value: float) -> str:
    return f"{value:.3g}"


def clock(seconds: float) -> str:
    """2:05, of minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
