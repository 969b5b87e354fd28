"""What a user drags: one file per task."""

from . import sega

NODES = [*sega.NODES]
