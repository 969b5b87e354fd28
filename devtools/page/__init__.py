"""ComfyUI's page in a real Chromium."""
