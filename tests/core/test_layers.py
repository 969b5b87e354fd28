"""Dependencies point one way: nodes → nodes/host → guidance_core, and nothing uses demo."""

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
                names = [[node.module]] if node.module else [[alias.name] for alias in node.names]
                found += [".".join([*base, *name]) for name in names]
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert name not in ("import_module", "__import__"), f"{path}: an import this test cannot see"
    return found


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"no Python files under {folder}"
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


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


@pytest.mark.parametrize("path", [*files("guidance_core"), *files("nodes"), ROOT / "__init__.py"], ids=name)
def test_the_product_uses_neither_demo_nor_development_code(path):
    for module in imports(path):
        parts = module.removeprefix("pack.").split(".")
        assert parts[0] not in ("demo", "tests", "devtools", "benchmarks", "dev"), module


@pytest.mark.parametrize("path", files("benchmarks"), ids=name)
def test_benchmarks_measure_the_product_and_use_neither_demo_nor_tests(path):
    for module in imports(path):
        assert module.removeprefix("pack.").split(".")[0] not in ("demo", "tests", "dev"), module


@pytest.mark.parametrize("path", [*files("guidance_core"), *files("nodes"), ROOT / "__init__.py"], ids=name)
def test_inside_the_pack_imports_are_relative(path):
    for module in imports(path):
        assert module.split(".")[0] not in ("guidance_core", "semantic_steering"), module
