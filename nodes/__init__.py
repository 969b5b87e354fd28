"""What a user drags: one file per task."""

from . import diffedit, inversion, sega, sliders, strips

NODES = [*sega.NODES, *inversion.NODES, *diffedit.NODES, *sliders.NODES, *strips.NODES]
