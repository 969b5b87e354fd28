"""`python -m devtools.command MODULE ARGUMENT ...`: runs a module so that Ctrl-C, a place that cannot be written to and
a package that is missing end it with a sentence and not with a traceback."""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends the process without a word until `main` listens

import _thread  # noqa: E402
import runpy  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import traceback  # noqa: E402
from pathlib import Path  # noqa: E402
from types import FrameType  # noqa: E402
from typing import Any  # noqa: E402

from .environment import ROOT, SetupError, say  # noqa: E402
from .paths import reason  # noqa: E402
from .processes import INTERRUPTED  # noqa: E402


def main() -> int:
    module, *arguments = sys.argv[1:]
    interrupted = False

    def interrupt(_: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        if _imports(frame):
            _interrupt_soon()
        else:
            raise KeyboardInterrupt

    def lost(error: Any) -> None:
        """Python drops what is raised in a destructor or a callback; Ctrl-C must not be lost there."""
        if error.exc_type is KeyboardInterrupt:
            _interrupt_soon()
        else:
            sys.__unraisablehook__(error)

    sys.unraisablehook = lost
    sys.argv = [module, *arguments]
    try:
        signal.signal(signal.SIGINT, interrupt)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit:
        raise
    except BaseException as problem:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sentence = "stopped" if interrupted else told(problem)  # a library may make another error of Ctrl-C
        if sentence is None:
            raise
        say(sentence)
        return INTERRUPTED if interrupted else 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what Python does at its end is not to be shown either
    return 0


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported. Several libraries drop what is raised then, or abort."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _interrupt_soon() -> None:
    timer = threading.Timer(0.1, _thread.interrupt_main)
    timer.daemon = True
    timer.start()


def told(problem: BaseException) -> str | None:
    """What a user can do about an error; None for those that are not theirs to mend."""
    if isinstance(problem, SetupError):
        return str(problem)
    if isinstance(problem, ModuleNotFoundError):
        package = (problem.name or "").partition(".")[0]
        if not package:  # raised by us, in words
            return str(problem)
        if not (ROOT / package).exists():
            return f"{sys.executable} has no package that brings the module {package}: install it and run again"
    if isinstance(problem, OSError) and problem.errno is not None:
        return f"{reason(problem)}; at {_place(problem)}"
    return None


def _place(problem: BaseException) -> str:
    """The last line of this repository that an error went through."""
    frames = [
        frame for frame in traceback.extract_tb(problem.__traceback__) if Path(frame.filename).is_relative_to(ROOT)
    ]
    return f"{Path(frames[-1].filename).relative_to(ROOT).as_posix()}:{frames[-1].lineno}"


if __name__ == "__main__":
    sys.exit(main())
