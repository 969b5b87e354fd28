"""The developers' tools, imported by path: the repository's root stays off the path (see tests/conftest.py)."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

for name in ("devtools", "demo"):
    if name not in sys.modules:
        file = ROOT / name / "__init__.py"
        spec = spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
        sys.modules[name] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
