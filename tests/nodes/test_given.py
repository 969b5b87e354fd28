"""What a prompt may hold in place of a link, and what an output without a type may give, is refused in words."""

from __future__ import annotations

import math

import pytest
import tiny_models
import torch
from comfy_api.latest import io
from semantic_steering.nodes import NODES
from semantic_steering.nodes.host.start.given import KINDS, guarded

JUNK = {
    "no entry": {}, "an entry": {"a": 1}, "nothing in it": [], "numbers": [1, 2, 3], "a link": ["checkpoint", 0, 1],
    "a whole number": 5, "a number": 1.5, "yes": True, "a text": "a word", "nothing": None, "a thing": object(),
}  # fmt: skip
NUMBERS = {"a whole number", "a number"}
NO_JUNK = {  # which of them a type's values may be
    "CONDITIONING": {"nothing in it"}, "LORA_MODEL": {"no entry", "an entry"}, "FLOAT": NUMBERS, "INT": NUMBERS,
    "STRING": {"a text"}, "SEGA_CONCEPTS": {"a thing", "nothing"}, "CLIP": {"nothing"}, "VAE": {"nothing"},
    "INVERSION": {"a thing"}, "SEGA_VECTORS": {"a thing"}, "COMBO": {"a text"},
}  # fmt: skip
# Of each type: what is one, also where it looks like nothing.
GOOD = {
    "MODEL": [tiny_models.stub_model()],
    "CONDITIONING": [[], tiny_models.stub_cond(1), [[None, {}]]],
    "LATENT": [{"samples": torch.zeros(1, 4, 8, 8)}],
    "IMAGE": [torch.zeros(1, 8, 8, 3)],
    "MASK": [torch.zeros(8, 8)],
    "LORA_MODEL": [{}, {"a": 1}],
    "FLOAT": [0.5, 1],
    "INT": [1, 2.0],
    "STRING": ["", "a word"],
    "COMBO": ["", "a choice"],
    "SEGA_CONCEPTS": [(), object()],
    "SIGMAS": [torch.zeros(3)],
}


def node(kind: str, optional: bool = False):
    class Taking(io.ComfyNode):
        @classmethod
        def execute(cls, it=None):
            return it

    widget = {
        "INT": io.Int.Input("it", optional=optional, min=-5, max=5),
        "FLOAT": io.Float.Input("it", optional=optional, min=-5.0, max=5.0),
    }
    return guarded(Taking, [widget.get(kind) or io.Custom(kind).Input("it", optional=optional)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_of_another_kind_is_refused_by_name(kind):
    for good in GOOD.get(kind, []):
        assert node(kind).execute(good) is good
    for name in JUNK.keys() - NO_JUNK.get(kind, set()):
        words = rf"^it is .*\({type(JUNK[name]).__name__}\), which is no {kind}: connect "
        with pytest.raises(ValueError, match=words):
            node(kind).execute(it=JUNK[name])


@pytest.mark.parametrize("text", ["\ud800", "glasses \udfff"])
def test_half_a_letter_is_no_text(text):
    with pytest.raises(ValueError, match=r"^it holds half a letter"):
        node("STRING").execute(text)
    with pytest.raises(ValueError, match=r"^it holds half a letter"):
        node("COMBO").execute(text)


@pytest.mark.parametrize("value", [6, 2**63, 10**30, 1.5, math.nan, math.inf, -math.inf])
def test_a_linked_whole_number_has_its_widgets_bound(value):
    with pytest.raises(ValueError, match=r"^it is .*; it must be a whole number from -5 to 5$"):
        node("INT").execute(value)


@pytest.mark.parametrize("value", [5001.0, -5001.0, 10**30, 10**400, 1e300])
def test_a_linked_number_is_not_far_beyond_its_widgets_bounds(value):
    """Those that are near, or not finite, are each node's to tell."""
    with pytest.raises(ValueError, match=r"^it is .*; it must be from -5.0 to 5.0$"):
        node("FLOAT").execute(value)
    assert math.isnan(node("FLOAT").execute(math.nan))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("CONDITIONING", [[torch.zeros(1, 0, 32), {}]]),
        ("CONDITIONING", [[torch.zeros(1, 77, 32), {}], [torch.zeros(0, 77, 32), {}]]),
        ("LATENT", {"samples": torch.zeros(0, 4, 8, 8)}),
        ("IMAGE", torch.zeros(1, 0, 8, 3)),
        ("MASK", torch.zeros(0, 8, 8)),
    ],
)
def test_tensors_without_a_number_hold_nothing(kind, value):
    with pytest.raises(ValueError, match=r"^it holds no .*; connect .*: its shape is \[.*0.*\]$"):
        node(kind).execute(value)


def test_texts_of_two_dimensions_are_no_conditioning():
    with pytest.raises(ValueError, match=r"which is no CONDITIONING"):
        node("CONDITIONING").execute([[torch.zeros(77, 32), {}]])


@pytest.mark.parametrize("state", [{1: torch.zeros(3)}, {"a": 1, None: 2}])
def test_a_slider_has_names(state):
    with pytest.raises(ValueError, match=r"which is no LORA_MODEL"):
        node("LORA_MODEL").execute(state)


def test_what_is_not_connected_is_nothing():
    assert node("MASK", optional=True).execute(None) is None
    with pytest.raises(ValueError, match=r"^it is None \(NoneType\), which is no INT"):
        node("INT", optional=True).execute(None)
    assert node("MASK").execute() is None  # the default is the node's own


def test_a_long_value_is_told_shortly():
    with pytest.raises(ValueError, match=r"^it is 'xxx.{90,100}\.\.\. \(str\)"):
        node("MODEL").execute("x" * 10**6)


@pytest.mark.parametrize("own", NODES, ids=lambda own: own.__name__)
def test_every_node_looks_at_what_it_is_given(own):
    inputs = own.define_schema().inputs
    looked_at = [field.id for field in inputs if field.get_io_type() != "BOOLEAN"]
    if not looked_at:
        assert own.__name__ == "SEGALoadVectors"
        return
    with pytest.raises(ValueError, match=rf"^{looked_at[0]} is \[\[1\]\] \(list\), which is no "):
        own.execute(**{field.id: [[1]] for field in inputs if not field.optional or field.id == looked_at[0]})
