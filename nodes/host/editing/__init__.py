"""Editing given pictures: inversion, DiffEdit, InstructPix2Pix."""
