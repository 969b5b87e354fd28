"""What a user drags: one file per task."""

from . import diffedit, inversion, sega, sliders, strips, vectors

NODES = [*sega.NODES, *vectors.NODES, *inversion.NODES, *diffedit.NODES, *sliders.NODES, *strips.NODES]
