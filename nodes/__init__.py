"""What a user drags: one file per task."""

from . import diffedit, instruct_pix2pix, inversion, sega, sliders, strips, vectors

NODES = [
    *sega.NODES, *vectors.NODES, *inversion.NODES, *diffedit.NODES, *instruct_pix2pix.NODES, *sliders.NODES,
    *strips.NODES,
]  # fmt: skip
