"""Dependencies point one way: nodes → nodes/host → guidance_core, in nodes/host from the methods' rooms to the shared
ones, benchmarks → devtools, and no product uses demo."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST_INTERNALS = {
    "comfy", "comfy_extras", "comfy_execution", "comfy_config", "folder_paths", "node_helpers", "nodes", "execution",
    "server", "latent_preview", "app", "cli_args",
}  # fmt: skip


def imports(path: Path) -> list[str]:
    """Every module a file imports, absolute: 'torch.nn', or with the repository's root as 'pack.'."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                found.append(node.module)
            else:
                parents = ["pack", *path.relative_to(ROOT).parts[:-1]]
                base = parents[: len(parents) - node.level + 1]
                base += [node.module] if node.module else []
                found += [".".join(base)] if node.module else []
                found += [".".join([*base, alias.name]) for alias in node.names]
    return found


# Rooms of nodes/host that every method's room may use; all others are methods' rooms.
SHARED = {"run", "conditioning", "files", "lora", "page"}
HOST = "pack.nodes.host."


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"no Python files under {folder}"
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


PRODUCT = [*files("guidance_core"), *files("nodes"), ROOT / "__init__.py"]


@pytest.mark.parametrize("path", [*PRODUCT, *files("benchmarks")], ids=name)
def test_no_import_is_hidden_from_these_tests(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in ("import_module", "__import__")


@pytest.mark.parametrize("path", files("guidance_core"), ids=name)
def test_the_core_uses_torch_and_numbers_only(path):
    allowed = {*sys.stdlib_module_names, "torch", "numpy", "einops", "safetensors"}
    for module in imports(path):
        assert module.split(".")[0] in allowed or module.startswith("pack.guidance_core"), module


@pytest.mark.parametrize("path", [p for p in files("nodes") if "host" not in p.parts], ids=name)
def test_nodes_reach_comfyui_through_nodes_host_only(path):
    for module in imports(path):
        assert module.split(".")[0] not in HOST_INTERNALS, module


@pytest.mark.parametrize("path", files("nodes/host"), ids=name)
def test_nodes_host_does_not_know_the_nodes(path):
    for module in imports(path):
        assert not module.startswith("pack.nodes") or module.startswith("pack.nodes.host"), module


def room(path: Path) -> str:
    return path.relative_to(ROOT / "nodes" / "host").parts[0]


IN_ROOMS = [path for path in files("nodes/host") if path.parent != ROOT / "nodes" / "host"]


def test_every_file_of_nodes_host_is_in_a_room():
    assert [path.name for path in files("nodes/host") if path not in IN_ROOMS] == ["__init__.py"]
    assert {room(path) for path in IN_ROOMS} > SHARED


@pytest.mark.parametrize("path", IN_ROOMS, ids=name)
def test_a_room_uses_the_shared_rooms_and_no_other_method(path):
    allowed = SHARED if room(path) in SHARED else {*SHARED, room(path)}
    for module in imports(path):
        if module.startswith(HOST):
            assert module.removeprefix(HOST).split(".")[0] in allowed, module


def used(modules: dict[str, Path]) -> dict[str, set[str]]:
    """{module: those of the modules that it imports}."""
    return {own: {module for module in imports(path) if module in modules} - {own} for own, path in modules.items()}


def circles(graph: dict[str, set[str]]) -> set[str]:
    """What is left of a graph when all that leads nowhere is taken away again and again."""
    left = dict(graph)
    while ends := [node for node, targets in left.items() if not targets & left.keys()]:
        for node in ends:
            del left[node]
    return set(left)


@pytest.mark.parametrize("folder", ["guidance_core", "nodes"])
def test_no_file_imports_itself_over_others(folder):
    modules = {f"pack.{name(path).removesuffix('.py').replace('/', '.')}": path for path in files(folder)}
    graph = used(modules)
    assert sum(map(len, graph.values())) > 10
    assert circles(graph) == set()


def test_no_room_imports_itself_over_others():
    graph: dict[str, set[str]] = {room(path): set() for path in IN_ROOMS}
    for path in IN_ROOMS:
        found = {module.removeprefix(HOST).split(".")[0] for module in imports(path) if module.startswith(HOST)}
        graph[room(path)] |= found - {room(path)}
    assert circles(graph) == set()


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {"a", "b", "c"}


def private(attribute: str) -> bool:
    return attribute.startswith("_") and not attribute.startswith("__")


@pytest.mark.parametrize("path", [*files("guidance_core"), *files("nodes")], ids=name)
def test_nothing_outside_a_file_uses_its_underscored_names(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not any(private(alias.name) for alias in node.names), ast.unparse(node)
        elif isinstance(node, ast.Attribute) and private(node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            assert own or node.attr in defined, ast.unparse(node)


@pytest.mark.parametrize("path", PRODUCT, ids=name)
def test_the_product_uses_neither_demo_nor_development_code(path):
    for module in imports(path):
        parts = module.removeprefix("pack.").split(".")
        assert parts[0] not in ("demo", "tests", "devtools", "benchmarks", "dev"), module


@pytest.mark.parametrize("path", files("benchmarks"), ids=name)
def test_benchmarks_measure_the_product_and_use_neither_demo_nor_tests(path):
    for module in imports(path):
        assert module.removeprefix("pack.").split(".")[0] not in ("demo", "tests", "dev"), module


@pytest.mark.parametrize("path", [*files("devtools"), ROOT / "dev.py"], ids=name)
def test_the_commands_use_neither_benchmarks_nor_tests(path):
    for module in imports(path):
        assert module.removeprefix("pack.").split(".")[0] not in ("benchmarks", "tests", "dev"), module


def rooms() -> dict[str, set[str]]:
    """Which parts of devtools each of them imports: its folders, and the modules beside them."""
    found: dict[str, set[str]] = {}
    for path in files("devtools"):
        room = path.relative_to(ROOT / "devtools").parts[0].removesuffix(".py")
        used = found.setdefault(room, set())
        for module in imports(path):
            assert module.split(".")[0] != "devtools", f"{name(path)}: inside devtools imports are relative"
            if module.startswith("pack.devtools."):
                used.add(module.split(".")[2])
        used.discard(room)
    return found


def test_the_rooms_of_the_commands_import_each_other_one_way():
    found = rooms()
    assert {"server", "page", "demo", "gallery", "pictures", "figures", "release", "host"} <= set(found)
    assert {"server", "strips"} <= found["demo"], "arrows that exist are seen"
    assert not circles(found), {room: found[room] & circles(found) for room in circles(found)}


@pytest.mark.parametrize("path", PRODUCT, ids=name)
def test_inside_the_pack_imports_are_relative(path):
    for module in imports(path):
        assert module.split(".")[0] not in ("guidance_core", "semantic_steering"), module
