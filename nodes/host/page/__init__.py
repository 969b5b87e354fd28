"""What a person sees: text and pictures under a node, and what a run did in words."""
