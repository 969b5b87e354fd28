"""What stands for the pack's own files."""


def work(fault):
    if fault == "KeyError":
        raise KeyError("samples")
    if fault == "words":
        raise ValueError(f"fault is {fault!r}; it must be none: choose another")
