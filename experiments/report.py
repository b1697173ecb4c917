"""Reports of finished runs: one study's own, or several compared.

python -m experiments.report runs/lt4rec.table2-video_feed-demo
python -m experiments.report runs/one runs/another --out comparison
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.analysis.figures import own_style
from experiments.analysis.report import comparison, document, page
from experiments.analysis.report.study_files import read_study
from jaxmtl import console, places


@own_style()
def main(argv: Sequence[str] | None = None) -> int:
    """Writes `report.html` and `report.md`; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m experiments.report",
        description="Writes the report of one run again, or compares several.",
    )
    parser.add_argument("runs", nargs="+", type=Path, help="work directories")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of report.html and report.md; default: the one run's own, or"
        " runs/comparison",
    )
    options = parser.parse_args(argv)
    try:
        if options.out is not None:
            places.check_folder("--out", options.out, {})
        studies = [read_study(run) for run in options.runs]
        if len(studies) == 1:
            made, folder = page.make_page(studies[0]), studies[0].folder
        else:
            command = console.as_typed(["python", "-m", "experiments.report", *argv])
            made = comparison.make_page(studies, command)
            folder = Path("runs/comparison")
        folder = options.out or folder
        document.write(made, folder, "report")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written to {folder}: report.html, report.md")
    return 0


if __name__ == "__main__":
    sys.exit(console.run(main))
