""".pre-commit-config.yaml runs tests of the suite, so that both check the same."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
REPOSITORIES = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
HOOKS = {hook["id"]: hook for repository in REPOSITORIES for hook in repository["hooks"]}
COMMAND = ["python", "dev.py", "test", "-q"]


def selected(hook: dict) -> list[str]:
    return shlex.split(hook["entry"])[len(COMMAND) :]


def test_the_hooks_come_from_here_alone():
    assert [repository["repo"] for repository in REPOSITORIES] == ["local"]


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_a_hook_runs_tests_that_there_are(hook):
    assert shlex.split(hook["entry"])[: len(COMMAND)] == COMMAND
    assert hook["language"] == "system" and hook["pass_filenames"] is False and hook["name"]
    for test in selected(hook):
        file, name = test.split("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_lint_format_types_and_every_generated_file_are_checked():
    names = {test.partition("::")[2] for hook in HOOKS.values() for test in selected(hook)}
    assert names == {
        "test_lint", "test_format", "test_types", "test_the_schemas_are_the_recorded_ones",
        "test_locale_is_in_step_with_the_schemas", "test_the_translation_is_in_step",
        "test_the_page_has_exactly_the_cells_that_the_tests_fill",
    }  # fmt: skip
