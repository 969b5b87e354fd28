"""`python -m devtools.test [--compat] [pytest arguments]`: the suite. Lint and type checks are tests like all others.

--compat runs the tests that make docs/compatibility.md instead, whole models among them, and writes the page.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from .host import ROOT


def main() -> int:
    # without abbreviations, so that pytest's --co is not taken for --compat
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--compat", action="store_true")
    options, rest = parser.parse_known_args()
    command = ["devtools.compatibility"] if options.compat else ["pytest"]
    return subprocess.run([sys.executable, "-m", *command, *rest], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
