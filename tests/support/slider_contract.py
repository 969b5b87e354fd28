"""The contract of the slider nodes, for tests/nodes/test_node_contract.py."""

from __future__ import annotations

from training_contract import FLOAT, SOCKET

WINDOW = [("start_percent", FLOAT, 0.2, 0.0, 1.0), ("end_percent", FLOAT, 1.0, 0.0, 1.0)]
SLIDERS = {
    "LabelledStrip": [("images", "IMAGE", *SOCKET), ("labels", "STRING", "", None, None), ("before", "IMAGE", *SOCKET)],
    "SliderLoRALoader": [
        ("model", "MODEL", *SOCKET), ("lora_name", "COMBO", "none", None, None), ("strength", FLOAT, 1.0, -20.0, 20.0),
        *WINDOW, ("apply_to", "COMBO", "both", None, None), ("clip", "CLIP", *SOCKET),
        ("slider", "LORA_MODEL", *SOCKET),
    ],
    "SliderSweep": [
        ("model", "MODEL", *SOCKET), ("latent_image", "LATENT", *SOCKET), ("lora_name", "COMBO", "none", None, None),
        ("strengths", "STRING", "-2, -1, 0, 1, 2", None, None), *WINDOW, ("slider", "LORA_MODEL", *SOCKET),
    ],
    "TextDirection": [
        ("conditioning", "CONDITIONING", *SOCKET), ("clip", "CLIP", *SOCKET), ("positive", "STRING", "", None, None),
        ("negative", "STRING", "", None, None), ("strength", FLOAT, 1.0, -20.0, 20.0),
    ],
}  # fmt: skip
