"""What a start on a ComfyUI says that lacks something: uses none of it."""
