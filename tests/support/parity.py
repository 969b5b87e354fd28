"""Tests beside the authors' code need diffusers."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from devtools.host import NO_DIFFUSERS


def without_diffusers() -> NoReturn:
    """Skip the test, of which the run's last lines tell (devtools/summary.py). Where SEMANTIC_STEERING_PARITY=required,
    as .ci/run has it, the test fails instead."""
    (pytest.fail if os.environ.get("SEMANTIC_STEERING_PARITY") == "required" else pytest.skip)(NO_DIFFUSERS)
