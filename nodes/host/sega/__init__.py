"""SEGA: the patch, a run of it, its activity, and recorded vectors."""
