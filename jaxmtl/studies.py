"""The commands of the studies, from any working directory.

    jaxmtl-run lt4rec.table2        # python -m experiments.run lt4rec.table2

`python -m` looks for `experiments` in the working directory first, and many have a
folder of that name. The studies are no part of the package, for the same reason: they
run from a checkout, which an editable install leads to.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from jaxmtl import console

COMMANDS = {
    "jaxmtl-run": "experiments.run",
    "jaxmtl-tune": "experiments.tune",
    "jaxmtl-export": "experiments.export",
    "jaxmtl-report": "experiments.report",
    "jaxmtl-status": "experiments.status",
}
"""Name of a command -> the module whose `main` it is."""


def main() -> int:
    """Carries out the command by whose name the program was called."""
    return console.run(lambda: run(Path(sys.argv[0]).stem))


def run(name: str, root: Path | None = None) -> int:
    """Carries out a command of the studies.

    Args:
      name: of `COMMANDS`.
      root: the checkout; by default what this package lies in.

    Returns:
      Its exit code; 1 where there is no checkout.
    """
    root = root or Path(__file__).resolve().parents[1]
    if not all((root / part).exists() for part in ("pyproject.toml", "experiments")):
        print(
            f"error: {name} runs the studies of a checkout, and {root} is none: git"
            " clone https://github.com/jaxmtl/jaxmtl && pip install -e ./jaxmtl",
            file=sys.stderr,
        )
        return 1
    sys.path.insert(0, str(root))  # before any other `experiments`
    return importlib.import_module(COMMANDS[name]).main()
