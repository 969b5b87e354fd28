"""A page that listens to what a node says while it runs."""

from __future__ import annotations

import json

import pytest
from said import words


class Page_:
    """Keeps what a page would be sent."""

    client_id = "here"

    def __init__(self):
        self.texts, self.pictures, self.runners = [], [], []
        self.sockets_metadata = {"here": {"feature_flags": {"supports_preview_metadata": True}}}

    def send_sync(self, event, data, sid):
        assert sid == "here"
        if not isinstance(event, str):
            self.pictures.append(data)
            return
        assert event == "semantic-steering.text"
        assert data["prompt"] == "prompt"
        self.texts.append((data["node"], words(json.loads(json.dumps(data["text"])))))
        self.runners.append(data["runner"])


@pytest.fixture
def page(monkeypatch):
    from comfy_execution.utils import CurrentNodeContext
    from server import PromptServer

    sent = Page_()
    monkeypatch.setattr(PromptServer, "instance", sent, raising=False)
    with CurrentNodeContext("prompt", "7"):
        yield sent
