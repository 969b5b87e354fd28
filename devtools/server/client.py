"""A small client of ComfyUI's HTTP API; every error carries the host's own text."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

Prompt = dict[str, dict[str, Any]]


class PromptError(Exception):
    """The host refused a prompt or failed while running it."""


class PromptInterrupted(PromptError):
    """The prompt was interrupted."""


class Client:
    """Talks to one server, such as `http://127.0.0.1:8188`."""

    def __init__(self, url: str):
        self.url = url

    def object_info(self) -> dict[str, Any]:
        """Every node class the server knows."""
        return self.json("/object_info")

    def queue(self, prompt: Prompt, page: str | None = None) -> str:
        """Queue an API-format prompt; returns its id. NaN and infinite numbers travel as JavaScript's raw tokens.

        page: the client id of who listens to what the server says of this prompt.
        """
        try:
            answer = self.json("/prompt", {"prompt": prompt} | ({} if page is None else {"client_id": page}))
        except urllib.error.HTTPError as refused:
            raise PromptError(refusal(json.loads(refused.read()))) from None
        if answer["node_errors"]:
            raise PromptError(refusal(answer))
        return answer["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 600.0) -> dict[str, Any]:
        """Wait until a prompt is done; returns its entry in the history, or raises what went wrong."""
        entry = self.finished(prompt_id, timeout)
        _check(entry)
        return entry

    def finished(self, prompt_id: str, timeout: float = 600.0) -> dict[str, Any]:
        """Wait until a prompt is done, well or not; returns its entry in the history."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            entry = self.json(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                return entry
            time.sleep(0.05)
        raise TimeoutError(f"the prompt was not done after {timeout:.0f} s")

    def run(self, prompt: Prompt, timeout: float = 600.0) -> dict[str, Any]:
        """Queue a prompt and wait for it; returns {node id: its output for the page}."""
        return self.wait(self.queue(prompt), timeout)["outputs"]

    def clear(self) -> None:
        """Drop what waits behind the running prompt."""
        self._request("/queue", b'{"clear": true}')

    def forget(self, prompt_id: str) -> None:
        """Have the server drop a prompt that is done, and what its nodes said, from its history."""
        self._request("/history", json.dumps({"delete": [prompt_id]}).encode())

    def delete(self, prompt_id: str) -> None:
        """Take a prompt that waits out of the queue."""
        self._request("/queue", json.dumps({"delete": [prompt_id]}).encode())

    def interrupt(self) -> None:
        """Stop what is running."""
        self._request("/interrupt", b"{}")

    def view(self, image: dict[str, str]) -> bytes:
        """The file behind an entry of an `images` output."""
        return self.get("/view?" + urllib.parse.urlencode(image))

    def get(self, path: str) -> bytes:
        return self._request(path)

    def json(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What an address answers; with a body, to a POST."""
        return json.loads(self._request(path, None if body is None else json.dumps(body).encode()))

    def _request(self, path: str, body: bytes | None = None) -> bytes:
        headers = {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()


def seconds(entry: dict[str, Any]) -> float:
    """How long a prompt ran, by its entry in the history."""
    stamps = [message["timestamp"] for _, message in entry["status"]["messages"] if "timestamp" in message]
    return (max(stamps) - min(stamps)) / 1000


def refusal(answer: dict[str, Any]) -> str:
    """The host's own words about a prompt it did not accept."""
    lines = []
    for node_id, found in answer.get("node_errors", {}).items():
        for error in found["errors"]:
            lines.append(f"node {node_id} ({found['class_type']}): {error['message']}: {error['details']}")
    error = answer.get("error", "")
    if isinstance(error, dict):
        error = f"{error['message']} {error['details']}".strip()
    return "\n".join(lines) or error or json.dumps(answer)


def _check(entry: dict[str, Any]) -> None:
    """Raise what went wrong in a prompt that is over."""
    for kind, message in entry["status"]["messages"]:
        where = f"node {message.get('node_id')} ({message.get('node_type')})"
        if kind == "execution_error":
            raise PromptError(f"{where}: {message['exception_type']}: {message['exception_message'].strip()}")
        if kind == "execution_interrupted":
            raise PromptInterrupted(f"{where}: interrupted")
    if entry["status"]["status_str"] != "success":
        raise PromptError(f"the prompt ended with {entry['status']}")
