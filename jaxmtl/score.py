"""Scores a file of raw rows with an exported folder.

    python -m jaxmtl.score DIR rows.csv --out scores.csv

The rows' columns are those that DIR/schema.json names: values of the log's own files,
or ids where its source keeps no vocabulary (`jaxmtl.data.encoding`). Labels are not
needed. Scores come in the order of the rows, a column a task, and `joint.<task>`: the
event of a nested task among all impressions.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv

from jaxmtl.serving import Scorer, load


def main(argv: Sequence[str] | None = None) -> int:
    """Scores what the command line names; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxmtl.score",
        description="Scores a CSV or Parquet file of raw rows with an exported folder.",
    )
    parser.add_argument("folder", type=Path, help="what an export wrote")
    parser.add_argument("rows", type=Path, help="a file, or a folder of such")
    parser.add_argument("--out", type=Path, required=True, help="a CSV file to write")
    parser.add_argument("--tasks", nargs="+", help="one task alone; default: all")
    options = parser.parse_args(argv)
    try:
        scored = write_scores(
            load(options.folder, options.tasks), options.rows, options.out
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{scored:,} rows scored: {options.out}")
    return 0


def write_scores(scorer: Scorer, rows: Path, out: Path) -> int:
    """Writes a CSV of scores, whole or not at all; returns how many rows it has."""
    temporary, count = out.with_name(f".{out.name}.{os.getpid()}"), 0
    try:
        writer = None
        for block in scorer.score_file(rows):
            table = pa.table(block)
            if writer is None:
                writer = csv.CSVWriter(temporary, table.schema)
            writer.write_table(table)
            count += table.num_rows
        if writer is None:
            raise ValueError(f"{rows} holds no row to score")
        writer.close()
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return count


if __name__ == "__main__":
    sys.exit(main())
