"""Concept sliders: the patch, and the two ways in which sliders act in a run."""
