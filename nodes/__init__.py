"""What a user drags: one file per task, each loaded by itself."""

from .host.start.lacking import reported, usable

NODES: list = []

with reported("SEGA"):
    from . import sega

    NODES += usable(sega.NODES)
with reported("SEGA Report"):
    from . import report

    NODES += usable(report.NODES)
with reported("the nodes of SEGA vectors"):
    from . import vectors

    NODES += usable(vectors.NODES)
with reported("DDIM Invert"):
    from . import inversion

    NODES += usable(inversion.NODES)
with reported("DiffEdit"):
    from . import diffedit

    NODES += usable(diffedit.NODES)
with reported("InstructPix2Pix Guider"):
    from . import instruct_pix2pix

    NODES += usable(instruct_pix2pix.NODES)
with reported("sliders"):
    from . import sliders

    NODES += usable(sliders.NODES)
with reported("Text Direction"):
    from . import text_direction

    NODES += usable(text_direction.NODES)
with reported("the training of sliders"):
    from . import training
    from .host.page import finishing

    NODES += usable(training.NODES)
    finishing.serve()
with reported("Labelled Strip"):
    from . import strips

    NODES += usable(strips.NODES)
