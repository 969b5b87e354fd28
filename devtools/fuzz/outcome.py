"""What became of a prompt, and whether it may have."""

from __future__ import annotations

import json
import re
import time
import urllib.error
from dataclasses import dataclass
from typing import Any

from ..host import ROOT
from ..server.client import Client, Prompt, PromptError
from ..server.server import PACK

LONGEST = 60.0  # seconds
FRAME = re.compile(r'File "([^"]+)", line \d+, in')
OURS = (f"custom_nodes/{PACK}/", f"{ROOT.as_posix()}/")
HARNESS = "/devtools/fuzz/host/"


@dataclass(frozen=True)
class Outcome:
    """kind: "ran", "refused by the host", "refused in words", "fails in the host", or what is a finding."""

    kind: str
    words: str = ""
    bits: tuple[str, ...] = ()
    raised: str = ""  # by ComfyUI: which exception

    @property
    def finding(self) -> bool:
        return self.kind not in ("ran", "refused by the host", "refused in words", "fails in the host")


def tried(
    client: Client, prompt: Prompt, names: set[str], places: tuple[str, ...] = OURS, limit: float = LONGEST
) -> Outcome:
    """Run a prompt. names: inputs of the pack's nodes, one of which a refusal in words mentions; places: parts of the
    paths of its files; limit: seconds."""
    began = time.monotonic()
    try:
        number = client.queue(prompt)
    except PromptError as refused:
        return Outcome("refused by the host", str(refused))
    except (urllib.error.URLError, OSError, json.JSONDecodeError) as broken:
        return Outcome("no answer", repr(broken))
    try:
        entry = client.finished(number, limit)
    except TimeoutError:
        client.interrupt()
        return Outcome("takes too long", f"more than {time.monotonic() - began:.0f} s")
    except (urllib.error.URLError, OSError) as broken:
        return Outcome("no answer", repr(broken))
    for event, message in entry["status"]["messages"]:
        if event == "execution_error":
            return _failed(message, names, places)
    checks = [check for output in entry["outputs"].values() for check in output.get("fuzz", [])]
    if not all(check["finite"] for check in checks):
        return Outcome("not finite")
    return Outcome("ran", bits=tuple(check["bits"] for check in checks))


KNOWN = ("ValueError", "OSError", "FileNotFoundError", "Diverged", "TooLittleMemory")


def _failed(message: dict[str, Any], names: set[str], places: tuple[str, ...]) -> Outcome:
    text = f"{message['exception_type']}: {message['exception_message'].strip()}"
    words = f"{message['node_type']}: {text}"
    files = FRAME.findall("".join(message["traceback"]))
    ours = [_is_in(file, places) for file in files]
    raised = "" if ours and ours[-1] else message["exception_type"]
    if not any(ours):
        return Outcome("fails in the host", words, raised=raised)
    said = text.partition(": ")[2]
    known = message["exception_type"].rpartition(".")[2] in KNOWN
    if ours[-1] and known and len(said) > 20 and any(re.search(rf"(?<!\w){name}(?!\w)", said) for name in names):
        return Outcome("refused in words", words)
    return Outcome("an error without words", words + "\n" + "".join(message["traceback"][-3:]), raised=raised)


def _is_in(file: str, places: tuple[str, ...]) -> bool:
    file = file.replace("\\", "/")
    return any(place in file for place in places) and HARNESS not in file
