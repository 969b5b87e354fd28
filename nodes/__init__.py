"""What a user drags: one file per task."""

from . import diffedit, inversion, sega

NODES = [*sega.NODES, *inversion.NODES, *diffedit.NODES]
