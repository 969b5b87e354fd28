"""Speed and memory, side by side with the authors' implementations and ComfyUI's own ways, all within one run:
`python dev.py bench [NAME]`."""

NAMES = ("sega", "diffedit", "ledits", "edit_term", "memory", "cost", "sliders", "training")
