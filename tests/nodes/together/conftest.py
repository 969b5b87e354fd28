"""One family at a time, for the files of tests that go through all of them."""

from __future__ import annotations

import gc
import shutil

import comfy.model_management
import family_models
import pytest
from family_cases import LARGEST, Case, forget_peak, marks, peak_memory


@pytest.fixture(scope="module", params=[pytest.param(row, id=row.name, marks=marks(row)) for row in family_models.ROWS])
def case(request, tmp_path_factory):
    """One family at a time: gone before the next one is made."""
    gc.collect()
    forget_peak()
    folder = tmp_path_factory.mktemp("checkpoint")
    yield Case(request.param, request.param.build(folder))
    comfy.model_management.unload_all_models()
    shutil.rmtree(folder, ignore_errors=True)  # pytest would keep whole models for the next runs


@pytest.fixture
def little_memory(case, record_property):
    """The table shows what a whole model took: a whole SDXL fits into a machine of 16 GB."""
    yield
    peak = peak_memory()
    if case.row.full_size and peak is not None:
        record_property("peak", peak)
        assert peak < LARGEST
