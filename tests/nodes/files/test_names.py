"""No name in a prompt leads out of ComfyUI's folders, to a device, or to a name that only some systems have. The inputs
that take one are found by their schemas: a new one is tested by existing."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from pathlib import Path

import folder_paths
import pytest
import tiny_models
import torch
from semantic_steering.nodes import NODES
from semantic_steering.nodes.host.run.identity import ModelIdentity
from semantic_steering.nodes.host.sega import vector_files
from semantic_steering.nodes.host.sega.vectors import ConceptVectors

ENDINGS = (".safetensors", ".sega.safetensors", ".png", ".json", ".yaml", ".txt")
VECTORS = ConceptVectors(torch.ones(1, 1, 4, 8, 8), (1.0,), ModelIdentity("SD15", "EPS", 14.6, None), (), 0)
GIVEN = {  # by type: what a node with a file's name is given besides
    "MODEL": tiny_models.stub_model, "LATENT": lambda: {"samples": torch.zeros(1, 4, 8, 8)},
    "SEGA_VECTORS": lambda: VECTORS,
}  # fmt: skip
WRITES = re.compile(r"(?<!lora )\b(file|folder|path|directory)\b", re.IGNORECASE)  # in a text input's id or tooltip


class Forbidden(BaseException):
    """A file outside, or one that never ends, was about to be opened: no `except Exception` may hide it."""


watched: list[Path] = []  # where nothing may be opened or made, while it holds something


def watch(event: str, arguments: tuple) -> None:
    if not watched or event not in ("open", "os.mkdir", "os.rename", "os.link", "os.remove"):
        return
    for name in arguments:
        if isinstance(name, str | Path):
            real = Path(os.path.realpath(name))
            endless = real.exists() and not stat.S_ISREG(real.stat().st_mode) and not real.is_dir()
            if endless or any(real.is_relative_to(place) for place in watched):
                raise Forbidden(f"{event} {name}")


sys.addaudithook(watch)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """ComfyUI's folders, empty, and `outside`, which nothing may touch."""
    old = folder_paths.get_input_directory(), folder_paths.get_output_directory()
    for name in ("input", "output", "outside"):
        (tmp_path / name).mkdir()
    folder_paths.set_input_directory(str(tmp_path / "input"))
    folder_paths.set_output_directory(str(tmp_path / "output"))
    for kind, (_, endings) in folder_paths.folder_names_and_paths.items():
        (tmp_path / kind).mkdir(exist_ok=True)
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tmp_path / kind)], endings))
    yield tmp_path
    watched.clear()
    folder_paths.set_input_directory(old[0])
    folder_paths.set_output_directory(old[1])


def lists():
    combos = [(node, field) for node in NODES for field in node.define_schema().inputs if hasattr(field, "options")]
    return {(node, field.id): [*(field.options or [])] for node, field in combos}


def readers(places):
    """(node, input, what follows a file's own name in the list, the folder) of every list that has files in it."""
    before, found = lists(), []
    for folder in places.iterdir():
        files = [folder / f"probe{ending}" for ending in ENDINGS]
        for file in files:
            file.touch()
        for (node, name), options in lists().items():
            new = [option for option in options if option not in before[node, name]]
            found += [
                (node, name, option.removeprefix("probe"), folder) for option in new if option.startswith("probe")
            ]
        for file in files:
            file.unlink()
        os.utime(folder, ns=(1, 1))  # whatever the resolution of its clock
    return found


def writers():
    """(node, input) of every text that says a file's name."""
    fields = [(node, field) for node in NODES for field in node.define_schema().inputs]
    texts = [(node, field) for node, field in fields if field.get_io_type() == "STRING"]
    return [(node, field.id) for node, field in texts if WRITES.search(f"{field.id.replace('_', ' ')} {field.tooltip}")]


def call(node, name, value):
    given = {
        field.id: GIVEN[field.get_io_type()]()
        for field in node.define_schema().inputs
        if field.get_io_type() in GIVEN and not field.optional
    }
    return node.execute(**given, **{name: value})


def test_the_inputs_are_found(places):
    found = {(node.__name__, name, rest) for node, name, rest, _ in readers(places)}
    assert found >= {
        ("SEGALoadVectors", "file", ".sega.safetensors"), ("SEGALoadVectors", "file", ".sega.safetensors [output]"),
        ("SliderLoRALoader", "lora_name", ".safetensors"), ("SliderSweep", "lora_name", ".safetensors"),
    }  # fmt: skip
    assert [(node.__name__, name) for node, name in writers()] == [("SEGASaveVectors", "filename_prefix")]


OUT, GONE, NO_FILE, LETTERS = "leads out of", "does not exist any more", "is no file but", "cannot be printed"
READ = {
    "a whole path": ("{outside}/secret{rest}", OUT), "..": ("../outside/secret{rest}", OUT),
    ".. further on": ("sub/../../outside/secret{rest}", OUT), ".. and back": ("../{folder}/good{rest}", OUT),
    "a whole path inside": ("{places}/{folder}/good{rest}", OUT),
    "..\\": ("..\\outside\\secret{rest}", f"{GONE}|{OUT}"), "a drive": ("C:\\secret{rest}", f"{GONE}|{OUT}"),
    "a share": ("\\\\host\\share\\secret{rest}", f"{GONE}|{OUT}"),
    "a link to a device": ("zero{rest}", f"{NO_FILE}|{OUT}"), "a pipe": ("pipe{rest}", NO_FILE),
    "a folder": ("folder{rest}", NO_FILE), "a link to nothing": ("nothing{rest}", f"{NO_FILE}|{OUT}"),
    "long": ("x" * 5000 + "{rest}", GONE), "deep": ("x/" * 2500 + "a{rest}", GONE), "NUL": ("good\0{rest}", LETTERS),
    "a new line": ("good\n{rest}", LETTERS), "Windows' console": ("CON{rest}", GONE), "a colon": ("good:b{rest}", GONE),
    "nothing": ("", ""), "a dot": (".", ""), "two dots": ("..", ""), "the device itself": ("/dev/zero", OUT),
    "a gone one": ("gone{rest}", GONE), "no text": (5, "is 5"), "half a letter": ("\ud800{rest}", "half a letter"),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_a_name_to_read(places, kind):
    found = readers(places)
    lay_traps(places, found)
    before = tree(places)
    for node, name, rest, folder in found:
        value, words = READ[kind]
        if isinstance(value, str):
            told = {"outside": places / "outside", "places": places, "folder": folder.name, "rest": rest}
            value = re.sub(r"\{(\w+)\}", lambda match, told=told: str(told[match[1]]), value)
        watched[:] = [places / "outside"]
        with pytest.raises(ValueError, match=rf"^{name} .*({words})") as refusal:
            call(node, name, value)
        assert len(str(refusal.value)) < 400 and "\n" not in str(refusal.value)
        if isinstance(value, str):
            fingerprint(node, name, value)
        watched.clear()
    assert tree(places) == before


def fingerprint(node, name, value):
    """Asked before a run: it may find no file, or refuse the name."""
    with contextlib.suppress(ValueError):
        node.fingerprint_inputs(**{name: value})


def lay_traps(places, found):
    for _, _, rest, folder in found:
        ending = rest.removesuffix(vector_files.OUTPUT)
        for place, name in ((places / "outside", "secret"), (folder, "good")):
            (place / f"{name}{ending}").write_bytes(b"")
        for trap in (folder / f"{name}{ending}" for name in ("zero", "pipe", "folder", "nothing", "link")):
            if os.path.lexists(trap):
                continue
            if trap.name.startswith("pipe"):
                os.mkfifo(trap)
            elif trap.name.startswith("folder"):
                trap.mkdir()
            else:
                to = {
                    "zero": "/dev/zero",
                    "nothing": places / "nowhere",
                    "link": places / "outside" / f"secret{ending}",
                }
                trap.symlink_to(to[trap.name.removesuffix(ending)])


def tree(places):
    return {path: path.lstat().st_mtime_ns for path in places.rglob("*") if not path.is_dir()}


def test_a_link_that_leads_outside(places):
    """In a models folder ComfyUI follows what its owner has put there; in the input and output folder it does not."""
    found = readers(places)
    lay_traps(places, found)
    for node, name, rest, folder in found:
        if folder.name in ("input", "output"):
            watched[:] = [places / "outside"]
            with pytest.raises(ValueError, match=rf"^{name} .*{OUT}"):
                call(node, name, f"link{rest}")
            watched.clear()


def test_what_never_ends_is_not_in_the_list(places):
    lay_traps(places, readers(places))
    listed = [f"{name}.sega.safetensors{end}" for end in ("", vector_files.OUTPUT) for name in ("good", "link")]
    assert vector_files.names() == listed


def test_folders_in_a_circle_and_folders_without_end(places):
    """Two links of a folder to itself are 2 to the 40th ways to a file; so many folders are more than calls can be."""
    inside = places / "output" / "inside"
    inside.mkdir()
    (inside / "a.sega.safetensors").touch()
    for name in ("one", "two"):
        (inside / name).symlink_to(inside)
    deep = places / "input"
    made = [deep := deep / "d" for _ in range(1200)]
    for folder in made:
        folder.mkdir()
    (made[-1] / "b.sega.safetensors").touch()
    try:
        assert vector_files.names() == [
            "/".join(["d"] * 1200 + ["b.sega.safetensors"]),
            f"inside/a.sega.safetensors{vector_files.OUTPUT}",
        ]
    finally:  # what removes the test's folder goes down by calls
        (made[-1] / "b.sega.safetensors").unlink()
        for folder in reversed(made):
            folder.rmdir()


WINDOWS = ["CON", "nul", "aux.safetensors", "COM1", "LPT9.x", "com¹", "PRN .a", "CONIN$"]
WRITE = {
    "a whole path": ("/tmp/a", "leads outside"), "..": ("../outside/a", "leads outside"),
    "..\\": ("..\\outside\\a", "leads outside"), ".. further on": ("sub/../../outside/a", "leads outside"),
    "a drive": ("C:\\a", "has : in"), "a stream": ("a:b", "has : in"), "a question": ("a?", r"has \? in"),
    "a link": ("link/a", "leads outside"), "a file as a folder": ("file/a", "cannot be made"),
    "long": ("x" * 5000, "a name of 5000 bytes"), "deep": ("x/" * 2500 + "a", "cannot be made"),
    "NUL": ("a\0b", LETTERS), "a new line": ("a\nb", LETTERS), "a line's end": ("a\u2028b", LETTERS),
    "nothing": ("", "holds no name"), "a dot": (".", "holds no name"), "two dots": ("a/..", "holds no name"),
    "a dot at the end": ("a.", "ends in a space or a dot"), "a folder's": ("sub./a", "ends in a space or a dot"),
    "a space at the end": ("a ", "ends in a space"), "a folder's space": ("sub /a", "ends in a space"),
    "no text": (5, "is 5"), "half a letter": ("\ud800", "half a letter"),
    **{f"Windows' {name}": (name, "a device on Windows") for name in WINDOWS},
    **{f"Windows' folder {name}": (f"{name}\\a", "a device on Windows") for name in WINDOWS},
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITE)
def test_a_name_to_write(places, kind):
    (places / "output" / "link").symlink_to(places / "outside")
    (places / "output" / "file").touch()
    before = tree(places)
    value, words = WRITE[kind]
    for node, name in writers():
        watched[:] = [places / "outside"]
        with pytest.raises(ValueError, match=rf"^{name} .*{words}") as refusal:
            call(node, name, value)
        watched.clear()
        assert len(str(refusal.value)) < 400 and "\n" not in str(refusal.value)
    assert tree(places) == before


@pytest.mark.parametrize(
    ("prefix", "file"),
    [
        ("a", "a"), ("sub/a", "sub/a"), ("sub\\a", "sub/a"), ("./a", "a"), ("sub/../a", "a"), ("con_a", "con_a"),
        ("COM10", "COM10"), ("a.b", "a.b"), ("眼镜/愛 の　顔", "眼镜/愛 の　顔"), ("a\u200db", "a\u200db"),
        (".a", ".a"), ("x" * 200, "x" * 200),
    ],
    ids=lambda text: ascii(text)[:20],
)  # fmt: skip
def test_a_name_that_every_system_has_is_written(places, prefix, file):
    watched[:] = [places / "outside"]
    for node, name in writers():
        call(node, name, prefix)
    watched.clear()
    written = [path for path in (places / "output").rglob("*") if path.is_file()]
    assert written == [places / "output" / f"{file}_00001_{vector_files.SUFFIX}"]


def test_a_file_that_another_program_holds(places, monkeypatch):
    """As Windows refuses one that a program has locked."""
    found = readers(places)
    lay_traps(places, found)

    def locked(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", locked)
    for node, name, rest, _ in found:
        with pytest.raises(ValueError, match=rf"^{name} 'good.* cannot be opened \(Permission denied\).*Close that"):
            call(node, name, f"good{rest}")
