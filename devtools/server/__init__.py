"""A real ComfyUI server: starting it, asking it, the prompts and what they give."""
