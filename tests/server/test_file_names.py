"""Names of files through a real server: chosen as they are, and linked, where ComfyUI compares them with no list. Which
inputs take one is found by what the server says of its nodes."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from server_prompts import assert_refused, assert_still_runs, node, sega_sampler

from devtools.server.client import PromptError

pytestmark = pytest.mark.server

PACK = "custom_nodes.semantic-steering"
FOLDERS = ("input", "output", "models/loras", "models/checkpoints")
GIVEN = {"MODEL": ["checkpoint", 0], "LATENT": ["latent", 0], "SEGA_VECTORS": ["sampler", 2], "CLIP": ["checkpoint", 1]}
# Of files that ComfyUI lists as models, and of the pack's own.
ENDINGS = (".ckpt", ".pt", ".pt2", ".bin", ".pth", ".pkl", ".sft", ".safetensors", ".sega.safetensors")
LINKED = pytest.mark.parametrize("linked", [False, True], ids=["as it is", "by a link"])


def inputs(object_info):
    """{(node, input): (type, options)} of the pack's own."""
    infos = [(kind, info) for kind, info in object_info.items() if info["python_module"] == PACK]
    fields = [(kind, *field) for kind, info in infos for group in info["input"].values() for field in group.items()]
    return {(kind, name): (told[0], (told[1:] or [{}])[0]) for kind, name, told in fields}


@pytest.fixture(scope="module")
def readers(server):
    """(node, input, what follows a file's own name in its list, the folder)."""
    before, found = inputs(server.client.object_info()), []
    for folder in (server.base / place for place in FOLDERS):
        file = folder / "probe.sega.safetensors"
        file.touch()
        for key, (kind, told) in inputs(server.client.object_info()).items():
            new = {*told.get("options", [])} - {*before[key][1].get("options", [])} if kind == "COMBO" else ()
            found += [(*key, option.removeprefix("probe"), folder) for option in new]
        file.unlink()
        os.utime(folder, ns=(1, 1))
    assert {found[:2] for found in found} == {
        ("SEGALoadVectors", "file"), ("SliderLoRALoader", "lora_name"), ("SliderSweep", "lora_name"),
    }  # fmt: skip
    return found


@pytest.fixture(scope="module")
def traps(server, readers):
    """Files that nothing may open, and what is left of them."""
    outside = server.base.parent / f"{server.base.name} outside"
    outside.mkdir()
    made = []
    for _, _, rest, folder in readers:
        ending = rest.removesuffix(" [output]")
        secret = outside / f"secret{ending}"
        secret.write_bytes(pickle.dumps(Code(outside / "code-ran")))
        for name, make in (("zero", "/dev/zero"), ("link", str(secret)), ("pipe", None), ("folder", "")):
            trap = folder / f"{name}{ending}"
            if os.path.lexists(trap):
                continue
            made.append(trap)
            if make is None:
                os.mkfifo(trap)
            elif make:
                trap.symlink_to(make)
            else:
                trap.mkdir()
    yield outside
    for trap in made:
        trap.rmdir() if trap.is_dir() and not trap.is_symlink() else trap.unlink()


class Code:
    """Runs when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


def asking(object_info, kind, name, value, linked):
    """A prompt with a file's name at a node, whose outputs are asked for."""
    prompt, info = sega_sampler(), object_info[kind]
    given = {}
    for key, (type_, *rest) in info["input"]["required"].items():
        given[key] = GIVEN[type_] if type_ in GIVEN else rest[0].get("default")
    prompt["text"] = node("ProbeText", text=value)
    prompt["asked"] = node(kind, **{**given, name: ["text", 0] if linked else value})
    if not info["output_node"]:
        prompt["shown"] = node("PreviewAny", source=["asked", 0])
    used = {"checkpoint", "latent", "asked", "shown", *(["text"] if linked else [])}
    if "SEGA_VECTORS" in [told[0] for told in info["input"]["required"].values()]:
        used |= prompt.keys() - {"text", "save"}
    return {key: entry for key, entry in prompt.items() if key in used}


NAMES = {
    "a whole path": "{outside}/secret{rest}", "..": "../../../{outside}/secret{rest}", "/etc/passwd": "/etc/passwd",
    "a link": "link{rest}", "a device": "zero{rest}", "the device itself": "/dev/zero", "a pipe": "pipe{rest}",
    "a folder": "folder{rest}", "long": "x" * 5000 + "{rest}", "NUL": "a\0{rest}", "a new line": "a\n{rest}",
    "Windows' console": "CON{rest}", "Windows' end": "a{rest}. ", "a colon": "a:b{rest}", "nothing": "",
}  # fmt: skip


@LINKED
@pytest.mark.parametrize("kind", NAMES)
def test_a_name_to_read(server, object_info, readers, traps, kind, linked):
    for asked, name, rest, _ in readers:
        value = NAMES[kind].replace("{outside}", str(traps)).replace("{rest}", rest)
        in_words = "ValueError" if linked else ""  # ComfyUI refuses what is in no list
        assert_refused(server, asking(object_info, asked, name, value, linked), in_words, f"{name}")
    assert not (traps / "code-ran").exists()


def test_the_server_goes_on_after_all_of_them(server):
    assert_still_runs(server)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("old", [False, True], ids=["as an archive", "as a bare pickle"])
def test_no_code_of_a_file_is_run(server, object_info, readers, ending, old):
    """Whatever its name ends in, and whichever input it is given to."""
    ran = server.base / "code-ran"
    for asked, name, rest, folder in readers:
        file = folder / f"hostile{ending}"
        torch.save({"a.lora_up.weight": torch.ones(2, 2), "b": Code(ran)}, file, _use_new_zipfile_serialization=not old)
        value = f"{file.name}{' [output]' if rest.endswith(' [output]') else ''}"
        other = asked == "SEGALoadVectors" and ending != ".sega.safetensors"
        words = "end in .sega.safetensors" if other else "hostile"
        try:
            assert_refused(server, asking(object_info, asked, name, value, linked=True), name, words)
        finally:
            file.unlink()
    assert not ran.exists()


WRITTEN = {
    "a whole path": "{outside}/a", "..": "../../{outside}/a", "..\\": "..\\..\\a", "NUL": "a\0b", "a new line": "a\nb",
    "long": "x" * 5000, "a device": "/dev/null", "Windows' console": "CON", "Windows' console with an end": "aux.x/a",
    "a colon": "a:b", "a dot": "a.", "a space": "a /b", "nothing": "",
}  # fmt: skip


@LINKED
@pytest.mark.parametrize("kind", WRITTEN)
def test_a_name_to_write(server, object_info, traps, kind, linked):
    before = tree(server)
    value = WRITTEN[kind].replace("{outside}", str(traps))
    with_text = [key for key in inputs(object_info) if key[1] == "filename_prefix"]
    assert with_text
    for asked, name in with_text:
        with pytest.raises(PromptError, match=f"ValueError: {name} "):
            server.client.run(asking(object_info, asked, name, value, linked))
    assert tree(server) == before
    assert not [name for name in os.listdir(traps) if name.startswith("a")]


def tree(server):
    found = (path for path in server.base.rglob("*") if not {"user", "temp"} & {*path.parts})
    return {*found, *server.base.parent.iterdir()}
