"""`python -m devtools.test [pytest arguments]`: the suite. Lint and type checks are tests of it like all others."""

from __future__ import annotations

import subprocess
import sys

from .host import ROOT


def main() -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
