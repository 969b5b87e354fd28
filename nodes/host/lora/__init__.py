"""LoRA files: reading them, and which layers of a model they fit."""
