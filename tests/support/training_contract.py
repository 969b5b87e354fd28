"""The contract of the nodes that train, for tests/nodes/test_node_contract.py."""

from __future__ import annotations

FLOAT, INT = "FLOAT", "INT"
SOCKET = (None, None, None)
SEED = ("seed", INT, 0, 0, 2**64 - 1)
LAYERS_INPUT = ("layers", "COMBO", "no cross-attention", None, None)
TO_GO_ON = [("slider", "LORA_MODEL", *SOCKET), ("vae", "VAE", *SOCKET)]


def training(steps: int, rate: float, end: float, layers: tuple = LAYERS_INPUT, sized: bool = False) -> list[tuple]:
    """What all nodes that train have, from steps on."""
    sizes = [("width", INT, 0, 0, 16384), ("height", INT, 0, 0, 16384)] if sized else []
    return [
        ("steps", INT, steps, 1, 100_000), ("rank", INT, 4, 1, 1024), ("alpha", FLOAT, 1.0, 0.001, 10_000.0), layers,
        ("learning_rate", FLOAT, rate, 0.000001, 1.0), ("batch_size", INT, 4, 1, 64),
        ("start_percent", FLOAT, 0.0, 0.0, 1.0), ("end_percent", FLOAT, end, 0.0, 1.0), *sizes,
        ("show_every", INT, 25, 1, 100_000), SEED, ("cfg", FLOAT, 5.0, 0.0, 100.0),
    ]  # fmt: skip


TRAINING = {
    "SliderTrainText": [
        ("model", "MODEL", *SOCKET), ("clip", "CLIP", *SOCKET), ("target", "STRING", "", None, None),
        ("positive", "STRING", "", None, None), ("negative", "STRING", "", None, None),
        ("preserve", "STRING", "", None, None), ("guidance", FLOAT, 1.75, 0.01, 100.0),
        *training(150, 0.002, 0.8, sized=True), *TO_GO_ON, ("train", "COMBO", "diffusion model", None, None),
    ],
    "SliderTrainImages": [
        ("model", "MODEL", *SOCKET), ("before", "LATENT", *SOCKET), ("after", "LATENT", *SOCKET),
        ("conditioning", "CONDITIONING", *SOCKET), ("strengths", "STRING", "", None, None),
        *training(200, 0.002, 1.0), *TO_GO_ON,
    ],
    "DreamBoothTrain": [
        ("model", "MODEL", *SOCKET), ("instance", "LATENT", *SOCKET),
        ("instance_conditioning", "CONDITIONING", *SOCKET), ("class_conditioning", "CONDITIONING", *SOCKET),
        ("class_latents", "LATENT", *SOCKET), ("prior_weight", FLOAT, 1.0, 0.0, 100.0),
        ("prior", "COMBO", "pictures", None, None),
        *training(500, 0.004, 1.0, ("layers", "COMBO", "all", None, None)), *TO_GO_ON,
    ],
}  # fmt: skip
TRAINING_ADVANCED = {
    "prior", "train", "rank", "alpha", "layers", "learning_rate", "batch_size", "start_percent", "end_percent", "width",
    "height", "show_every", "cfg",
}  # fmt: skip
TRAINING_OPTIONAL = {
    "SliderTrainText": {"slider", "vae", "train"}, "SliderTrainImages": {"conditioning", "slider", "vae"},
    "DreamBoothTrain": {"class_latents", "slider", "vae"},
}  # fmt: skip
TRAINING_OUTPUTS = [("slider", "LORA_MODEL"), ("loss", "LOSS_MAP"), ("strip", "IMAGE")]
# What each must be found by.
TRAINING_WORDS = {
    "SliderTrainText": {"concept slider", "train LoRA", "LECO"},
    "SliderTrainImages": {"concept slider", "train LoRA", "image pairs"},
    "DreamBoothTrain": {"DreamBooth", "train LoRA", "character LoRA"},
}
