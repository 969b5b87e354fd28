"""Speed, side by side with ComfyUI's own ways, all within one run: `python dev.py bench [NAME]`."""

NAMES = ("sliders",)
