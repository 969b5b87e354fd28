"""Names of files, as a prompt gives them, and of what is in them."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import PurePath

LONGEST = 200  # bytes of a name; most systems take 255, of which number and ending need some
LONGEST_SHOWN = 60  # letters
NOT_IN_NAMES = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories of what is no letter: controls, half letters, new lines
NOT_ON_WINDOWS = re.compile(r'[<>:"|?*]')
# What Windows takes for a device, whatever ending follows.
DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³]) *(\..*)?", re.IGNORECASE)


def shown(value: object) -> str:
    """A value as a text for people shows it, which may be a megabyte long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def short(name: object, longest: int = LONGEST_SHOWN) -> str:
    """A name that a prompt or a file gives, in a line that people can read."""
    line = " ".join(str(name).split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def check_read(name: str, what: str, folders: str) -> None:
    """Refuse the name of a file to read that could lead out of ComfyUI's folders, which have lists of names in them.

    what: the input. Raises ValueError.
    """
    _check_letters(name, what)
    path = PurePath(name)
    if path.anchor or ".." in path.parts:
        raise outside(name, what, folders)


def outside(name: str, what: str, folders: str) -> ValueError:
    """Why a name is refused that leads elsewhere."""
    return ValueError(
        f"{what} {shown(name)} leads out of ComfyUI's {folders} (by a whole path, by .. or by a link): put the file "
        f"itself into one of them and choose it from the list"
    )


def no_file(name: str, what: str, *places: str) -> ValueError:
    """Why a name is refused that no file has. places: where it would be."""
    if any(os.path.lexists(place) for place in places):
        return ValueError(f"{what} {shown(name)} is no file but a folder, a device or a link to nothing; choose a file")
    return ValueError(f"{what} {shown(name)} does not exist any more; press R to read the list of files again")


def unreadable(name: str, what: str, problem: OSError) -> ValueError:
    """Why a file is refused that is there."""
    if isinstance(problem, PermissionError):
        return ValueError(
            f"{what} {shown(name)} cannot be opened ({problem.strerror}): another program holds it, or ComfyUI may not "
            "read it. Close that program, or allow ComfyUI to read the file"
        )
    return ValueError(f"{what} {shown(name)} cannot be read ({problem.strerror or problem}); copy the file there anew")


def check_write(prefix: str, what: str) -> str:
    """The beginning of a file's name, with the folders before it, on any system: a graph that saves on one should save
    on all, and what it saved go to any other. Both / and \\ part folders.

    what: the input. Raises ValueError.
    """
    _check_letters(prefix, what)
    prefix = prefix.replace("\\", "/")
    if os.path.basename(os.path.normpath(prefix)) in ("", ".", ".."):
        raise ValueError(f"{what} {shown(prefix)} holds no name; write the beginning of the file's, such as sega")
    for part in prefix.split("/"):
        size = len(part.encode())
        if size > LONGEST:
            raise ValueError(f"{what} has a name of {size} bytes in it ({shown(part[:40])}...); at most {LONGEST}")
        if part not in (".", ".."):
            _check_portable(part, what)
    return prefix


def _check_letters(name: str, what: str) -> None:
    if any(unicodedata.category(letter) in NOT_IN_NAMES for letter in name):
        raise ValueError(f"{what} {shown(name)} holds letters that cannot be printed; leave them out")


def _check_portable(part: str, what: str) -> None:
    letter = NOT_ON_WINDOWS.search(part)
    if letter:
        raise ValueError(f"{what} has {letter[0]} in {shown(part)}, which no name on Windows holds; leave it out")
    if part.endswith((" ", ".")):
        raise ValueError(f"{what} has {shown(part)} in it; on Windows no name ends in a space or a dot, leave it out")
    if DEVICE.fullmatch(part):
        raise ValueError(f"{what} has {shown(part)} in it, which is a device on Windows; choose another name")
