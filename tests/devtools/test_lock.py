"""The lock: all that the environment needs, with hashes, in step with what is pinned by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from devtools.environment import LOCK, PYTHONS, REQUIREMENTS, SetupError
from devtools.release import lock

SOURCES = (REQUIREMENTS, REQUIREMENTS.with_name("oracle.txt"))
PLACES = [
    {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.1", "sys_platform": system}
    for minor in range(PYTHONS[0][1], PYTHONS[1][1] + 1)
    for system in ("linux", "darwin", "win32")
]


def locked(file: Path) -> list[tuple[Requirement, list[str]]]:
    """Its requirements with their hashes."""
    blocks = re.split(r"\n(?=\S)", file.read_text(encoding="utf-8").rstrip())
    assert blocks[0].startswith("# Written by `python dev.py lock`")
    return [
        (Requirement(block.partition(" \\\n")[0]), re.findall(r"--hash=sha256:(\w{64})", block)) for block in blocks[1:]
    ]


@pytest.mark.parametrize("source", SOURCES, ids=lambda file: file.stem)
def test_what_is_pinned_is_locked_in_that_version_for_every_python_and_system(source):
    wanted = [Requirement(line) for line in source.read_text().splitlines() if line and not line.startswith("#")]
    for place in PLACES:
        here = {
            canonicalize_name(r.name): r
            for r, _ in locked(LOCK / source.name)
            if not r.marker or r.marker.evaluate(place)
        }
        for want in wanted:
            if not want.marker or want.marker.evaluate(place):
                (version,) = here[canonicalize_name(want.name)].specifier
                assert want.specifier.contains(version.version), f"{want} at {place}: run `python dev.py lock`"


@pytest.mark.parametrize("source", SOURCES, ids=lambda file: file.stem)
def test_every_package_has_one_version_and_hashes_and_no_address(source):
    for place in PLACES:
        names = [
            canonicalize_name(r.name) for r, _ in locked(LOCK / source.name) if not r.marker or r.marker.evaluate(place)
        ]
        assert len(names) == len({*names})
    for requirement, hashes in locked(LOCK / source.name):
        assert hashes, requirement
    assert "://" not in (LOCK / source.name).read_text()


def test_the_pages_types_are_locked_with_hashes_and_no_address():
    wanted = json.loads((LOCK / "package.json").read_text())["dependencies"]
    text = (LOCK / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    assert packages.pop("")["dependencies"] == wanted, "run `python dev.py lock`"
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert "://" not in text


@pytest.mark.parametrize(
    ("wheel", "usable"),
    [
        ("six-1.17.0-py2.py3-none-any", True),
        ("torch-2.11.0-cp312-cp312-manylinux_2_28_aarch64", True),
        ("numpy-2.4.6-cp311-cp311-macosx_11_0_arm64", True),
        ("numpy-2.4.6-cp311-cp311-win_amd64", True),
        ("safetensors-0.8.0-cp38-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("ruff-0.17.5-py3-none-macosx_10_13_universal2", True),
        ("numpy-2.4.6-cp39-cp39-win_amd64", False),
        ("numpy-2.4.6-cp313-cp313t-manylinux_2_28_x86_64", False),
        ("numpy-2.4.6-pp311-pypy311_pp73-manylinux_2_28_x86_64", False),
        ("numpy-2.4.6-cp311-cp311-musllinux_1_2_x86_64", False),
        ("numpy-2.4.6-cp311-cp311-win32", False),
        ("old-1-py2-none-any", False),
    ],
)  # fmt: skip
def test_only_wheels_that_can_be_used_are_kept(wheel, usable):
    assert lock.usable(f"{wheel}.whl") is usable


def test_a_package_that_would_have_to_be_built_is_refused():
    wheel = {"url": "://host/thing-1-py3-none-any.whl", "hashes": {"sha256": "ab"}}
    other = {"url": "://host/thing-1-py2-none-any.whl", "hashes": {"sha256": "cd"}}
    package = {"name": "thing", "version": "1", "marker": "os_name == 'nt'", "wheels": [wheel, other]}
    assert lock.text([package]) == "thing==1 ; os_name == 'nt' \\\n    --hash=sha256:ab\n"
    for wheels in ({"wheels": [other]}, {}):
        with pytest.raises(SetupError, match="thing==1 has no wheel that can be used: pin another version"):
            lock.text([{"name": "thing", "version": "1", **wheels}])
